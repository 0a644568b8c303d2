"""Lhotse manifests: every wrong value is a sentence with file and line."""

import gzip
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from asr.corpora import lhotse
from asr.errors import DataError, raise_problems

WRONG: dict[str, dict[str, list[Any]]] = {
    "recordings": {
        "id": [None, 7, [], {}],
        "sources": [None, [], {}, "a.wav", [None], [{}], [{"type": "file"}], [{"type": 1}]],
        "duration": [None, "1", [], math.nan],
        "sampling_rate": ["16000", 16000.5, []],
        "num_samples": ["16000", 1.5, []],
        "transforms": [3, {}, "x", [{"name": "Speed"}]],
    },
    "supervisions": {
        "id": [None, 7, [], "a b", ""],
        "recording_id": [None, 7, []],
        "start": [None, "0", 5, -5, math.inf],
        "duration": [None, "1", 9e9, math.nan],
        "channel": ["0", 0.5, {}, ["0"]],
        "speaker": [7, [], "a b", None],
        "text": [7, [], {}],
        "gender": [1, []],
        "alignment": [
            *(3, [], {"phone": 3}, {"phone": [3]}, {"phone": [{"symbol": "aa"}]}),
            *({"phone": [["aa", 0]]}, {"phone": [["aa", "0", 1]]}, {"phone": [[None, 0, 1]]}),
        ],
        "custom": [3, [], {"words": 3}, {"dialect": []}],
    },
}


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (kind, key, value)
        for kind, keys in WRONG.items()
        for key, values in keys.items()
        for value in values
    ],
)
def test_every_wrong_value_of_lhotse_is_named(
    tmp_path: Path, kind: str, key: str, value: Any
) -> None:
    source = {"type": "file", "channels": [0], "source": "u1.wav"}
    rows = {
        "recordings": {"id": "r1", "sources": [source], "duration": 1.0, "sampling_rate": 16000},
        "supervisions": {
            **{"id": "u1", "recording_id": "r1", "start": 0.0, "duration": 1.0, "channel": 0},
            **{"speaker": "s1", "text": "aa b", "gender": "F", "custom": {"words": "ab", "x": 3}},
            "alignment": {"phone": [["aa", 0, 0.5, None], ["b", 0.5, 0.5]], "word": [{}]},
        },
    }
    (tmp_path / "u1.wav").touch()
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    problems: list[str] = []
    (sound,) = lhotse.read(tmp_path, problems)
    assert (sound.phones, len(sound.segments), problems) == (("aa", "b"), 2, [])
    (tmp_path / f"{kind}.jsonl").write_text("\n" + json.dumps(rows[kind] | {key: value}))
    with suppress(DataError):
        lhotse.read(tmp_path, problems)
        raise_problems(problems)
        problems = ["nothing is wrong"]
    (problem,) = problems
    assert f"{kind}.jsonl:" in problem
    assert key in problem or "is a part of its recording" in problem or "recording" in problem


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:40] + b"x" * 9 + b[49:]])
def test_a_damaged_gzip_of_lhotse_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "recordings.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b'{"id": "r1"}\n' * 99 + bytes(range(256)))))
    with pytest.raises(DataError, match=r"recordings\.jsonl\.gz: damaged"):
        lhotse.read(tmp_path, [])
