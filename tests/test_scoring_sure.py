"""How sure and who is better: intervals, MAPSSWE, paired bootstrap, and the reports that say so."""

import json
import os
import random
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asr.commands import score as command
from asr.scoring import (
    ErrorCounts,
    Score,
    compare,
    protocol,
    read_transcripts,
    runs,
    score,
    score_transcripts,
    with_intervals,
)
from asr.scoring.significance import Comparison, mapsswe, segments

SHARED = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[1] / ".." / "shared"))
SCLITE = SHARED / "conformance" / "sclite"
TIMIT_SAMPLE = SHARED / "corpora" / "timit-sample"
needs_conformance = pytest.mark.skipif(
    not SCLITE.is_dir(), reason=f"no conformance files in {SCLITE} (set ASR_SHARED)"
)

Side = dict[str, list[str]]


def speech(spread: float, seed: int, speakers: int = 12) -> tuple[Side, Side]:
    """References, and hypotheses whose speakers err at rates around 20 %, ± `spread`."""
    rng = random.Random(seed)
    references, hypotheses = {}, {}
    for speaker in range(speakers):
        rate = 0.2 + spread * rng.uniform(-1.0, 1.0)
        for n in range(15):
            said = [rng.choice(["aa", "b", "iy", "s", "sil"]) for _ in range(35)]
            references[f"s{speaker}-{n}"] = said
            hypotheses[f"s{speaker}-{n}"] = ["zh" if rng.random() < rate else p for p in said]
    return references, hypotheses


@pytest.mark.parametrize("seed", range(5))
def test_intervals_contain_the_rate(seed: int) -> None:
    result = with_intervals(score(*speech(0.1, seed)), 300, seed)
    assert set(result.intervals) == {"speaker", "utterance"}
    for interval in result.intervals.values():
        assert interval.low < result.total.per < interval.high


def width(found: Score, unit: str) -> float:
    interval = found.intervals[unit]
    return interval.high - interval.low


def test_speakers_who_differ_widen_the_interval() -> None:
    for seed in range(5):
        result = with_intervals(score(*speech(0.15, seed)), 1000, seed)
        assert width(result, "speaker") > 1.3 * width(result, "utterance")


def read_by_dictionary(root: Path) -> Side:
    """Each utterance of the TIMIT sample as TIMIT's dictionary would say its words."""
    said: dict[str, list[str]] = {}
    for line in (root / "timitdic.txt").read_text().splitlines():
        if entry := re.match(r"([^;\s][^\s~]*)\S*\s+/(.*)/", line):
            said.setdefault(entry[1].strip("-."), re.sub(r"\d", "", entry[2]).split())
    return {
        f"{path.parent.name[4:]}_{path.stem}": [
            phone
            for line in path.read_text().splitlines()
            for phone in said.get(line.split()[2].lower(), [])
        ]
        for path in root.rglob("*.wrd")
    }


@pytest.mark.skipif(not TIMIT_SAMPLE.is_dir(), reason=f"no TIMIT sample in {TIMIT_SAMPLE}")
def test_real_speakers_widen_the_interval() -> None:
    """Twelve people's speech against one dictionary: some keep to it, others do not."""
    references = {i: t.phones for i, t in read_transcripts(TIMIT_SAMPLE, "phn").items.items()}
    result = score(references, read_by_dictionary(TIMIT_SAMPLE), "arpabet")
    assert result.total.utterances == 120
    assert 10.0 < result.total.per < 25.0
    ratios = []
    for seed in range(5):
        sure = with_intervals(result, 1000, seed)
        ratios.append(width(sure, "speaker") / width(sure, "utterance"))
    assert min(ratios) > 1.1


def test_order_of_utterances_does_not_matter() -> None:
    references, hypotheses = speech(0.1, seed=1)
    other = {id_: [p if n % 9 else "ng" for n, p in enumerate(h)] for id_, h in hypotheses.items()}
    ids = list(references)
    random.Random(0).shuffle(ids)
    shuffled = {id_: references[id_] for id_ in ids}
    result = [with_intervals(score(r, hypotheses), 200, 7) for r in (references, shuffled)]
    for part in ("total", "speakers", "sizes", "lengths", "confusions", "intervals"):
        assert getattr(result[0], part) == getattr(result[1], part)
    compared = [
        compare(f, score(r, other), protocol("strict"), 200, 7)
        for f, r in zip(result, (references, shuffled), strict=True)
    ]
    assert compared[0].bootstrap == compared[1].bootstrap
    assert compared[0].mapsswe.z == pytest.approx(compared[1].mapsswe.z, abs=1e-12)


def test_one_speaker_has_no_interval_by_speaker() -> None:
    result = with_intervals(score({"s-1": ["aa"], "s-2": ["b"]}, {"s-1": ["aa"], "s-2": ["aa"]}))
    assert set(result.intervals) == {"utterance"}
    assert with_intervals(score({"s-1": ["aa"]}, {"s-1": ["b"]})).intervals == {}
    assert with_intervals(result, replicates=0).intervals == {}


@needs_conformance
@pytest.mark.parametrize("pair", ["AB", "AC", "BC"])
@pytest.mark.parametrize("scorer", ["sclite", "levenshtein"])
def test_mapsswe_is_that_of_sc_stats(pair: str, scorer: str) -> None:
    expected = json.loads((SCLITE / "expected.json").read_text())["mapsswe"][pair]
    reference = read_transcripts(SCLITE / "ref.trn")
    a, b = (
        score_transcripts(
            reference,
            read_transcripts(SCLITE / "mapsswe" / f"sys{system}.trn"),
            protocol("none"),
            scorer,
        )
        for system in pair
    )
    test = compare(a, b, protocol("none")).mapsswe
    assert test.segments == expected["segments"]
    assert test.z == pytest.approx(expected["z_full_precision"], abs=1e-9)
    assert f"{test.mean:.3f}" == f"{expected['sc_stats']['mean']:.3f}"
    assert f"{test.sd:.3f}" == f"{expected['sc_stats']['std']:.3f}"
    assert (test.p < 0.05) == (expected["sc_stats"]["diff"] == "Yes")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("CCCC", "CCCC", []),
        ("CCSCCSCC", "CCCCCCCC", [(1, 0), (1, 0)]),
        ("CCSCSCC", "CCCCCCC", [(2, 0)]),
        ("SCCD", "CCCC", [(1, 0), (1, 0)]),
        ("CC", "ICCI", [(0, 1), (0, 1)]),
        ("ICCI", "CC", [(1, 0), (1, 0)]),
        ("", "II", [(0, 2)]),
        ("CCCS", "CCCCI", [(1, 1)]),
        ("CCD", "CCCII", [(1, 2)]),
        ("COCSCC", "CCCCCC", [(1, 0)]),
    ],
)
def test_segments_by_hand(a: str, b: str, expected: list[tuple[int, int]]) -> None:
    """Cases whose errors sc_stats 2.4.10 was seen to give; A and B change places alike."""
    assert segments(a, b) == expected
    assert segments(b, a) == [(y, x) for x, y in expected]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scorer", ["sclite", "levenshtein"])
def test_identical_systems_never_differ(seed: int, scorer: str) -> None:
    scored = score(*speech(0.1, seed), "strict", scorer)
    result = compare(scored, scored, protocol("strict"), 200, seed)
    assert result.mapsswe.p == 1.0
    assert result.bootstrap is not None
    assert result.bootstrap.p == 1.0
    assert not result.told_apart
    assert "nothing tells them apart" in result.verdict()


def better(seed: int, share: float) -> Comparison:
    """B corrects `share` of A's errors."""
    references, hypotheses = speech(0.1, seed)
    rng = random.Random(seed + 100)
    corrected = {
        id_: [
            said if rng.random() < share else heard
            for said, heard in zip(references[id_], h, strict=True)
        ]
        for id_, h in hypotheses.items()
    }
    scores = [score(references, h) for h in (hypotheses, corrected)]
    return compare(scores[0], scores[1], protocol("strict"), 500, seed)


def test_verdicts() -> None:
    clear = better(seed=1, share=0.3)
    assert clear.told_apart
    assert clear.mapsswe.z > 0
    assert clear.difference > 0
    assert clear.verdict().startswith("B is better than A by")
    assert clear.bootstrap is not None
    assert clear.bootstrap.interval.low > 0


def test_verdict_of_two_draws_of_one_system() -> None:
    references, hypotheses = speech(0.0, seed=8)
    again = speech(0.0, seed=8)[1]
    rng = random.Random(9)
    for side in (hypotheses, again):
        for phones in side.values():
            phones[rng.randrange(35)] = rng.choice(["aa", "zh"])
    scores = [score(references, side) for side in (hypotheses, again)]
    unclear = compare(scores[0], scores[1], protocol("strict"), 500, seed=1)
    assert not unclear.told_apart
    assert "cannot be told apart" in unclear.verdict()
    assert unclear.utterances_needed is not None
    assert unclear.utterances_needed > unclear.total_a.utterances
    assert f"about {unclear.utterances_needed} utterances" in unclear.verdict()


def test_needed_utterances_shrink_with_the_difference() -> None:
    needed = [better(seed=2, share=share).utterances_needed for share in (0.05, 0.2, 0.6)]
    assert None not in needed
    assert needed == sorted(needed, key=lambda n: -(n or 0))


def test_mapsswe_of_errors_that_cancel_is_undecided() -> None:
    test = mapsswe([("SCC", "CCC"), ("CCC", "SCC")])
    assert (test.segments, test.mean, test.z, test.p) == (2, 0.0, 0.0, 1.0)


def test_runs_are_averaged() -> None:
    scores = [score({"a": ["aa"] * 10}, {"a": ["b"] * n + ["aa"] * (10 - n)}) for n in (1, 2, 3)]
    result = runs(scores)
    assert result is not None
    assert (result.n, result.mean, result.sd) == (3, 20.0, 10.0)
    assert runs(scores[:1]) is None


def write_sides(folder: Path, *sides: Side) -> list[str]:
    paths = []
    for n, side in enumerate(sides):
        path = folder / f"{n}.trn"
        path.write_text("".join(f"{' '.join(p)} ({i})\n" for i, p in side.items()))
        paths.append(str(path))
    return paths


def test_contract_of_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references, hypotheses = speech(0.1, seed=3)
    other = {id_: ["aa", *h[1:]] for id_, h in hypotheses.items()}
    paths = write_sides(tmp_path, references, hypotheses, other)
    arguments = [*paths[:2], "--compare", paths[2], "--json", "-", "--bootstrap", "50"]
    assert command.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["protocol"], result["scorer"]) == ("strict", "levenshtein")
    total = result["total"]
    assert set(total) == {
        *("utterances", "ref", "corr", "sub", "del", "ins", "err", "per", "per_interval")
    }
    assert set(total["per_interval"]) == {"speaker", "utterance"}
    assert set(result["speakers"]) == {f"s{n}" for n in range(12)}
    utterance = result["utterances"]["s0-0"]
    assert set(utterance) == {"ref", "corr", "sub", "del", "ins", "err", "per", "ops"}
    for name, number in (("C", "corr"), ("S", "sub"), ("D", "del"), ("I", "ins")):
        assert utterance["ops"].count(name) == utterance[number]
    assert {"segments", "mean", "z", "p"} <= set(result["compare"]["mapsswe"])
    assert result["compare"]["bootstrap"]["by"] == "speaker"
    for number in ("ref", "corr", "sub", "del", "ins", "err"):
        assert total[number] == sum(u[number] for u in result["utterances"].values())
        assert total[number] == sum(s[number] for s in result["speakers"].values())

    assert command.main([*paths[:2], "--protocol", "all", "--json", "-", "--bootstrap", "0"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert [one["protocol"] for one in every][:2] == ["strict", "sil-optional"]
    assert every[0]["total"]["per_interval"] == {"speaker": None, "utterance": None}


def test_report_of_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references, hypotheses = speech(0.1, seed=4)
    other = {id_: ["aa", *h[1:]] for id_, h in hypotheses.items()}
    paths = write_sides(tmp_path, references, hypotheses, other)
    assert command.main([*paths, "--bootstrap", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mean of 2 runs: PER ")
    assert "± " in lines[0]
    assert [line.startswith("%PER ") for line in lines[1:4]] == [True, True, False]
    page, rate = tmp_path / "page.html", lines[0].split("PER ")[1].partition(" (")[0]
    assert command.main([*paths, "--html", str(page), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == lines[0]
    text = page.read_text()
    assert re.search(r'class="per"><span>([^<]+)<', text)[1] == rate
    assert rate in re.search("<title>(.*)</title>", text)[1]


def test_report_shows_both_scorers_where_they_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = {"s-1": ["d", "b", "e", "e", "b", "d", "d", "c", "d"], "s-2": ["b"]}
    hypotheses = {"s-1": ["c", "d", "a", "d", "d", "a", "d", "e", "b", "c"], "s-2": ["b"]}
    counts = [score(references, hypotheses, "none", s).total.err for s in ("levenshtein", "sclite")]
    assert counts[0] < counts[1]
    paths = write_sides(tmp_path, references, hypotheses)
    assert command.main([*paths, "--protocol", "none"]) == 0
    assert f"Scorer sclite counts {counts[1]} errors" in capsys.readouterr().out


class Links(HTMLParser):
    """Remember what a page would load, and which elements are left open."""

    void = ("meta", "link", "img", "br", "rect", "line", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_page_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references, hypotheses = speech(0.1, seed=5)
    hypotheses["s0-0"] = ["<b>&", *hypotheses["s0-0"]]
    other = {id_: ["aa", *h[1:]] for id_, h in hypotheses.items()}
    paths = write_sides(tmp_path, references, hypotheses, other)
    page = tmp_path / "page.html"
    arguments = [*paths[:2], "--compare", paths[2], "--html", str(page), "--protocol", "none"]
    assert command.main(arguments) == 0
    text = page.read_text()
    links = Links()
    links.feed(text)
    assert links.loaded == links.open == []
    assert "url(" not in text
    assert "@import" not in text
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text
    capsys.readouterr()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )


@pytest.mark.parametrize("scorer", ["levenshtein", "sclite"])
def test_scoring_imports_nothing_heavy(tmp_path: Path, scorer: str) -> None:
    paths = write_sides(tmp_path, *speech(0.1, seed=6))
    program = (
        "import sys; from asr.commands import score; "
        f"score.main({[*paths, '--scorer', scorer, '--json', '-']!r}); "
        "heavy = {'torch', 'hydra', 'numba', 'matplotlib', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    python("-c", program)


def test_help_is_there_at_once() -> None:
    """In time of the processor, which other processes do not lengthen."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "--protocol" in python("-m", "asr", "score", "--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.2


def test_counts_add_up() -> None:
    assert ErrorCounts.of("CSDIO", "", "CC") == ErrorCounts(3, 6, 4, 1, 1, 1)
    assert ErrorCounts.of("CSDIO") + ErrorCounts.of("") == ErrorCounts(2, 4, 2, 1, 1, 1)
