"""Damaged inputs for every reader: each must be read, or refused in a sentence, without a hang.

    python tests/fuzz.py                          5,000 inputs, seed 1; a table, and every fault
    python tests/fuzz.py --only flac,lhotse --count 2000 --seed 7 --keep faults

A good file of each format is changed at random: bytes, lines, numbers, values of its JSON. Where a
format has a checksum of them, it is made right again. A fault is an exception other than
`DataError`, an error that does not name the file, a warning of Python, a reading that takes longer
than LIMIT_S, or one that needs more memory than LIMIT_BYTES.
"""

import argparse
import contextlib
import faulthandler
import gzip
import hashlib
import io
import json
import logging
import random
import re
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from conftest import SUMMARY
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from asr import checkpoint, corpora, labels, model_file
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.audio import inspect, load
from asr.by_torch import in_use
from asr.checkpoint import Checkpoint
from asr.commands import configured
from asr.corpora import download, lexicon, manifests
from asr.corpora.folder import FolderConfig
from asr.corpora.librispeech import LibriSpeechConfig
from asr.corpora.splits import read_speaker_splits
from asr.criteria import CTCConfig
from asr.errors import DataError, raise_problems
from asr.features.config import FeaturesConfig
from asr.labels import textgrid
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Manifest, Segment, Utterance, read_jsonl, write_jsonl
from asr.scoring.formats import read_transcripts
from asr.search import SearchConfig
from asr.search.arpa import read_arpa, write_arpa
from asr.search.ngram import estimate
from asr.training.run_directory import RunDirectory
from asr.transcriber import Transcriber

LIMIT_S = 20
LIMIT_BYTES = 2 << 30  # above what the process had at its start
RATE = 16_000
PHONES = ("aa", "s", "iy", "m")

# What people and broken programs write where a value is expected.
TOKENS = [
    *("", " ", "0", "-1", "1", "3", "16000", "1e999", "-1e999", "nan", "NaN", "inf", "Infinity"),
    *("1e-320", "99999999999999999999", "2147483648", "0.5", "0,5", "²", "٣", "1_000", "0x10"),
    *("null", "true", "[]", "{}", '""', '"', "'", "\\", "[" * 2000, "{" * 500, "#", ";;", "é"),
    *(
        "e\u0301",
        "\u200b",
        "\ufeff",
        "\u2028",
        "\x00",
        "\x85",
        "\xa0",
        "\t",
        "\r",
        "\n\n",
        "\\ud800",
    ),
    *("<blank>", "h#", "sil", "aa", "-", "../x", "/", "a" * 5000, "😀", "你好", "|", "sox x |"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 7, 3.5, 1e308, -0.0, 10**30, float("nan"), float("inf")),
    *("", " ", "x", "3", "a b", "a\nb", "\u200b", "\ud800", "é", "..", "/", "😀", "a" * 300),
    *(
        [],
        [[]],
        [None],
        [1, 2],
        ["aa"],
        ["aa", ""],
        [["aa", 0, 1]],
        [["aa", 1, 0]],
        [["aa", "0", "1"]],
    ),
    *({}, {"a": 1}, {"phone": "aa"}, [{}], [{"id": 1}], [["aa", 0, float("nan")]]),
]

Mutation = Callable[[random.Random, bytes], bytes]


# ---------------------------------------------------------------- mutations


def bytes_changed(rng: random.Random, data: bytes) -> bytes:
    """Some bytes overwritten, most often in the first ones, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if changed:
            end = len(changed) if rng.random() < 0.4 else min(len(changed), 96)
            place = rng.randrange(end)
            changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def words_changed(rng: random.Random, data: bytes) -> bytes:
    """Integers of two, four or eight bytes overwritten with extreme ones."""
    size = rng.choice((2, 4, 4, 8))
    place = rng.randrange(max(1, min(len(data), 128) - size))
    value = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), rng.randrange(2**16)))
    encoded = value.to_bytes(size, rng.choice(("little", "big")))
    return data[:place] + encoded + data[place + size :]


def cut(rng: random.Random, data: bytes) -> bytes:
    """The end, the beginning or a piece is missing."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:end], data[start:], data[:start] + data[end:]))


def repeated(rng: random.Random, data: bytes) -> bytes:
    """A piece stands there again, or everything does."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data + data, data[:end] + data[start:end] * 3 + data[end:]))


def other_bytes(rng: random.Random, data: bytes) -> bytes:
    """Something else altogether, or something before or after it."""
    alien = rng.choice((b"", b"\0" * 100, rng.randbytes(300), b"<!DOCTYPE html><html></html>"))
    return rng.choice((alien, alien + data, data + alien))


def tokens_changed(rng: random.Random, data: bytes) -> bytes:
    """Words of a text replaced by others, left out or put in."""
    text = data.decode("utf-8", "replace")
    words = [(m.start(), m.end()) for m in _WORD.finditer(text)]
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not words:
            break
        start, end = rng.choice(words)
        text = text[:start] + rng.choice(TOKENS) + text[rng.choice((start, end, end, end)) :]
        words = [(m.start(), m.end()) for m in _WORD.finditer(text)]
    return text.encode("utf-8", "surrogatepass")


def lines_changed(rng: random.Random, data: bytes) -> bytes:
    """Lines in another order, missing, doubled, joined, or with another line end."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[rng.randrange(len(lines))])
        case 2:
            rng.shuffle(lines)
        case 3:
            return b"\r".join(lines) if rng.random() < 0.5 else b" ".join(lines)
        case _:
            lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
    return b"\n".join(lines)


def encoded_otherwise(rng: random.Random, data: bytes) -> bytes:
    """Another encoding than UTF-8."""
    text = data.decode("utf-8", "replace").replace("aa", "ää")
    return text.encode(
        rng.choice(("latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252")), "replace"
    )


def values_changed(rng: random.Random, data: bytes) -> bytes:
    """Values, keys and lengths in the JSON of one line."""
    lines = data.split(b"\n")
    place = rng.choice([n for n, line in enumerate(lines) if line.strip()] or [0])
    try:
        record = json.loads(lines[place])
    except (ValueError, RecursionError):
        return tokens_changed(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2))):
        record = _value_changed(rng, record)
    lines[place] = json.dumps(record).encode()
    return b"\n".join(lines)


def _value_changed(rng: random.Random, record: Any) -> Any:
    places = list(_places(record))
    if not places or rng.random() < 0.03:
        return rng.choice(VALUES)
    node, key = rng.choice(places)
    action = rng.random()
    if action < 0.75:
        node[key] = rng.choice(VALUES)
    elif action < 0.87:
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(("x", "id", "phones", "")) if action < 0.94 else f"{key} "] = node[key]
    else:
        node.insert(rng.randrange(len(node) + 1), rng.choice(VALUES))
    return record


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of nested values with every key or index in it."""
    keys = (
        list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    )
    for key in keys:
        yield node, key
        yield from _places(node[key])


BINARY = (bytes_changed, bytes_changed, words_changed, words_changed, cut, repeated, other_bytes)
TEXT = (
    tokens_changed,
    tokens_changed,
    tokens_changed,
    lines_changed,
    *BINARY[-3:],
    encoded_otherwise,
)
JSON = (values_changed, values_changed, values_changed, values_changed, *TEXT)

_WORD = re.compile(r"[^\s]+")


# ---------------------------------------------------------------- good files


def tone(seconds: float = 0.6) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def audio(
    format_name: str, subtype: str | None = None, rate: int = RATE, channels: int = 1
) -> bytes:
    buffer = io.BytesIO()
    samples = np.repeat(tone()[:, None], channels, axis=1)
    soundfile.write(buffer, samples, rate, format=format_name, subtype=subtype)
    return buffer.getvalue()


SEGMENTS = tuple(Segment(PHONES[n % 4], n * 0.1, (n + 1) * 0.1) for n in range(6))
UTTERANCES = [
    Utterance(
        *(f"s{n}_u{n}", "u.wav", 0.6, f"s{n}", tuple(one.phone for one in SEGMENTS), SEGMENTS),
        *("fuzz", "train", "f", "1", "a word", "first"),
    )
    for n in range(3)
]
HYPOTHESES = [Hypothesis(one.id, one.phones, -3.5, (0.1,) * 6, (0.5,) * 6) for one in UTTERANCES]


def written(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return Path(folder, name).read_bytes()


def small_recognizer() -> Recognizer:
    torch.manual_seed(0)
    config = RecognizerConfig(
        FeaturesConfig(bins=8, deltas=0), EncoderConfig(hidden=4, layers=1), CTCConfig()
    )
    return Recognizer(config, Vocabulary(PHONES))


def good_checkpoint() -> bytes:
    model = estimate([one.phones for one in UTTERANCES], 2, PHONES)
    about = {"corpus": "fuzz", "seed": 1}
    whole = Checkpoint(small_recognizer(), about, None, SearchConfig(), model)
    return written(lambda path: checkpoint.save(path, whole), "x.safetensors")


def header_forged(rng: random.Random, data: bytes) -> bytes:
    """A checkpoint with other values in its header or its weights, and the checksum of these."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(data)
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()["asr"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, TypeError):  # damaged by the mutation before
            return data
    if rng.random() < 0.8:
        header = _value_changed(rng, header)
    else:
        name = rng.choice(sorted(tensors))
        one = tensors[name]
        tensors[name] = rng.choice(
            (
                lambda: one.to(torch.complex64),
                lambda: one.to(torch.float64) * 1e30,
                lambda: torch.full_like(one, 99),
                lambda: one[:0],
                lambda: one.reshape(-1),
                lambda: one.to(torch.float64) * float("nan"),
                lambda: one.to(torch.int64),
            )
        )()
    tensors = {name: one.contiguous() for name, one in tensors.items()}
    text = json.dumps(header)
    digest = model_file.digest(text, {name: one.numpy() for name, one in tensors.items()})
    return to_bytes(tensors, metadata={"asr": text, "sha256": digest})


def tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{mode}", format=tarfile.PAX_FORMAT) as pack:
        for name in ("corpus/a.txt", "corpus/deep/b.txt"):
            member = tarfile.TarInfo(name)
            member.size = 500
            pack.addfile(member, io.BytesIO(b"x" * 500))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("corpus/a.txt", "x" * 500)
    return buffer.getvalue()


def inside_gzip(mutation: Mutation) -> Mutation:
    """The mutation of what is compressed."""

    def mutated(rng: random.Random, data: bytes) -> bytes:
        try:
            return gzip.compress(mutation(rng, gzip.decompress(data)))
        except (OSError, EOFError, zlib.error):  # damaged by the mutation before
            return data

    return mutated


TEXTGRID = textgrid.text_of({"words": [Segment("a", 0, 0.6)], "phones": SEGMENTS}, 0.6).encode()
SHORT_TEXTGRID = b"""File type = "ooTextFile"
Object class = "TextGrid"

0
0.6
<exists>
1
"IntervalTier"
"phones"
0
0.6
2
0
0.3
"aa"
0.3
0.6
"s"
"""
PHN = b"0 3200 aa\n3200 6400 iy\n6400 9600 s\n"
LAB = b"0 2000000 aa\n2000000 4000000 s\n4000000 6000000 iy\n"
LEXICON = b"HELLO HH AH0 L OW1\nHELLO(2) HH EH0 L OW1\nthere\t0.9\tDH EH1 R\n"
TRN = b"aa s iy (s0_u0)\nm (s1_u1)\n"
CTM = b"r A 0.0 0.2 aa 0.9\nr A 0.2 0.2 s\nr B 0 0.1 iy\n"
STM = b";; comment\nr A spk 0.0 1.0 <o,f0,male> aa s iy\nr B spk 0.2 1.2 s m\n"
MLF = b'#!MLF!#\n"*/u1.lab"\n0 1000000 aa\n1000000 2000000 s\n.\n"*/u2.lab"\nm\n.\n'
KALDI_TEXT = b"s0_u0 aa s iy\ns1_u1 m\n"
LHOTSE = {
    "recordings.jsonl": b"\n".join(
        json.dumps(
            {
                "id": f"r{n}",
                "sources": [{"type": "file", "channels": [0], "source": "u.wav"}],
                "sampling_rate": RATE,
                "num_samples": 9600,
                "duration": 0.6,
                "channel_ids": [0],
            }
        ).encode()
        for n in range(3)
    ),
    "supervisions.jsonl": b"\n".join(
        json.dumps(
            {
                "id": f"r{n}",
                "recording_id": f"r{n}",
                "start": 0.0,
                "duration": 0.6,
                "channel": 0,
                "text": "aa s",
                "speaker": f"s{n}",
                "gender": "F",
                "alignment": {"phone": [["aa", 0.0, 0.3, 0.5], ["s", 0.3, 0.3, None]]},
            }
        ).encode()
        for n in range(3)
    ),
}
KALDI = {
    "wav.scp": b"s0_u0 u.wav\ns1_u1 u.wav\ns2_u2 u.wav\n",
    "text": b"s0_u0 aa s iy\ns1_u1 m\ns2_u2 s s\n",
    "utt2spk": b"s0_u0 s0\ns1_u1 s1\ns2_u2 s2\n",
    "spk2gender": b"s0 f\ns1 m\n",
}


# ---------------------------------------------------------------- readers


@dataclass(frozen=True)
class Reader:
    """A format: the name of its file, a good one, how it is damaged, and what reads it."""

    name: str
    good: bytes
    mutations: Sequence[Mutation]
    read: Callable[[Path], object]


def read_audio(path: Path) -> None:
    """As preparing and training read it, and in the rate that it has, as transcribing does."""
    with contextlib.suppress(DataError):
        inspect(path, RATE)
        load(path)
    for _ in TRANSCRIBER.blocks(path):
        pass


def read_label_file(path: Path) -> None:
    for phones in (None, PHONES):
        labels.read_checked(path, 9600, RATE, phones, "phones")


def read_manifest(path: Path) -> None:
    for utterance in Manifest(path):
        Utterance.to_dict(utterance)
    read_transcripts(path)


def read_corpus(name: str, files: dict[str, bytes], path: Path) -> None:
    """A folder with this file in place of its good one, prepared up to the manifests."""
    folder = path.parent / "corpus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for other, content in files.items():
        (folder / other).write_bytes(path.read_bytes() if other == name else content)
    (folder / "u.wav").write_bytes(AUDIO["wav"])
    try:
        corpus = corpora.find(FolderConfig(root=str(folder)))
    except DataError as error:
        raise DataError(str(error).replace(str(folder), str(path))) from error
    target = path.parent / "manifests"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    manifests.write(corpus, target, path.parent / "warnings.txt", jobs=1)


def read_run(path: Path) -> None:
    """The results that a run directory keeps of its training and of the tuning of its search."""
    run = RunDirectory(path.parent)
    run.best.write_bytes(CHECKPOINT)
    match path.name:
        case "training.json":
            run.summary()
        case "search.json":
            run.tuned_search()
        case _:
            configured.saved(path)


def read_librispeech(path: Path) -> None:
    """A tree of LibriSpeech with this list of speakers, transcript or lexicon."""
    root = path.parent / "LibriSpeech"
    shutil.rmtree(root, ignore_errors=True)
    for number, subset in enumerate(("train", "dev", "test"), start=1):
        chapter = root / subset / f"{number}" / "7"
        chapter.mkdir(parents=True)
        (chapter / f"{number}-7-0.flac").write_bytes(AUDIO["flac"])
        (chapter / f"{number}-7.trans.txt").write_bytes(f"{number}-7-0 HELLO THERE\n".encode())
    lexicon_path = root / "x.dict"
    lexicon_path.write_bytes(LEXICON)
    place = {"SPEAKERS.TXT": root, "1-7.trans.txt": root / "train" / "1" / "7"}.get(path.name, root)
    shutil.copy(path, place / path.name)
    splits = {split: split for split in ("train", "dev", "test")}
    config = LibriSpeechConfig(
        root=str(root), lexicon=str(lexicon_path), g2p="none", complete=False, **splits
    )
    try:
        corpus = corpora.find(config)
        raise_problems([*corpus.wrong, *corpus.bad])
    except DataError as error:
        raise DataError(str(error).replace(str(root), str(path))) from error


def read_archive(path: Path) -> None:
    folder = path.parent / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        download.unpack(path, folder, "corpus", limit=10_000)
    except DataError:
        assert not list(folder.glob("*")), "left behind by an archive that was refused"
        raise


def read_checkpoint(path: Path) -> None:
    loaded = checkpoint.load(path)
    Transcriber(in_use(loaded)).transcribe(tone(), RATE)


AUDIO = {
    "wav": audio("WAV", "PCM_16"),
    "float.wav": audio("WAV", "FLOAT"),
    "stereo.wav": audio("WAVEX", "PCM_24", 44_100, 2),
    "flac": audio("FLAC"),
    "ogg": audio("OGG", "VORBIS"),
    "opus": audio("OGG", "OPUS"),
    "mp3": audio("MP3"),
    "sph": audio("NIST", "PCM_16"),
    "aiff": audio("AIFF"),
    "w64": audio("W64"),
    "au": audio("AU", "ULAW", 8000),
    "caf": audio("CAF"),
}
CHECKPOINT = good_checkpoint()
TRANSCRIBER = Transcriber(in_use(Checkpoint(small_recognizer().eval())))


def readers() -> list[Reader]:
    manifest = written(partial(write_jsonl, records=UTTERANCES), "x.jsonl")
    hypotheses = written(partial(write_jsonl, records=HYPOTHESES), "x.jsonl")
    model = estimate([one.phones for one in UTTERANCES], 2, PHONES)
    arpa = written(partial(write_arpa, model=model), "x.arpa")
    digest = hashlib.sha256(CHECKPOINT).hexdigest()
    search = json.dumps({"search": asdict(SearchConfig()), "checkpoint": digest})
    config = b"""name: demo
run_dir: exp/demo/1
seed: 1
corpus:
  name: synthetic
  protocol: strict
  root: x
"""
    forged = [header_forged] * 6 + list(BINARY)
    return [
        *(Reader(f"x.{name}", data, BINARY, read_audio) for name, data in AUDIO.items()),
        Reader("x.phn", PHN, TEXT, read_label_file),
        Reader("x.TextGrid", TEXTGRID, TEXT, read_label_file),
        Reader("short.TextGrid", SHORT_TEXTGRID, TEXT, read_label_file),
        Reader("utf16.TextGrid", TEXTGRID.decode().encode("utf-16"), BINARY, read_label_file),
        Reader("x.lab", LAB, TEXT, read_label_file),
        Reader("manifest.jsonl", manifest, JSON, read_manifest),
        Reader("hyp.jsonl", hypotheses, JSON, partial(read_jsonl, record_type=Hypothesis)),
        Reader("scored.jsonl", hypotheses, JSON, read_transcripts),
        Reader("x.trn", TRN, TEXT, read_transcripts),
        Reader("x.ctm", CTM, TEXT, read_transcripts),
        Reader("x.stm", STM, TEXT, read_transcripts),
        Reader("x.mlf", MLF, TEXT, read_transcripts),
        Reader("text", KALDI_TEXT, TEXT, read_transcripts),
        *(Reader(n, KALDI[n], TEXT, partial(read_corpus, n, KALDI)) for n in KALDI),
        *(Reader(n, LHOTSE[n], JSON, partial(read_corpus, n, LHOTSE)) for n in LHOTSE),
        Reader("cmudict", LEXICON, TEXT, lexicon.read),
        Reader("x.arpa", arpa, TEXT, read_arpa),
        Reader("vocabulary.txt", b"<blank>\naa\ns\n", TEXT, Vocabulary.load),
        Reader("speakers.txt", b"s0 train\ns1 dev\n", TEXT, read_speaker_splits),
        Reader("config.yaml", config, TEXT, read_run),
        Reader("training.json", json.dumps(SUMMARY).encode(), JSON, read_run),
        Reader("search.json", search.encode(), JSON, read_run),
        Reader(
            "SPEAKERS.TXT",
            b"1 | F | train | 5.0 | A\n2 | M | dev | 5 | B\n",
            TEXT,
            read_librispeech,
        ),
        Reader("1-7.trans.txt", b"1-7-0 HELLO THERE\n", TEXT, read_librispeech),
        Reader("x.dict", LEXICON, TEXT, read_librispeech),
        Reader("x.safetensors", CHECKPOINT, forged, read_checkpoint),
        Reader("x.tar", tar(""), BINARY, read_archive),
        Reader("x.tar.gz", tar("gz"), [*BINARY, *map(inside_gzip, BINARY)], read_archive),
        Reader("x.zip", zipped(), BINARY, read_archive),
    ]


# ---------------------------------------------------------------- running


class Hang(BaseException):
    """The reading took too long."""


def _alarm(*_: object) -> None:
    raise Hang


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """An exception for a hang, an error for too much memory, and every warning an error."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, _alarm)
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, before[1]))
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def fault_of(reader: Reader, path: Path) -> tuple[str, str]:
    """What happened, `read`, `refused` or the kind of fault; and the traceback of a fault."""
    signal.alarm(LIMIT_S)
    try:
        reader.read(path)
        return "read", ""
    except DataError as error:
        sentence = str(error)
        if path.name not in sentence:
            return "names no file", sentence
        if "Traceback" in sentence or "Error(" in sentence:
            return "odd sentence", sentence
        return "refused", ""
    except (Exception, Hang) as error:
        return type(error).__name__, traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)


def run(
    chosen: Sequence[Reader], count: int, seed: int, keep: Path | None = None
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Outcomes by reader of `count` inputs in all, and each fault once, by where it was raised."""
    outcomes: dict[str, Counter[str]] = {reader.name: Counter() for reader in chosen}
    faults: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary, limits():
        for number in range(count):
            reader = chosen[number % len(chosen)]
            rng = random.Random(f"{seed} {reader.name} {number}")
            data = reader.good
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                data = rng.choice(reader.mutations)(rng, data)
            path = Path(temporary, reader.name)
            path.write_bytes(data)
            outcome, trace = fault_of(reader, path)
            outcomes[reader.name][outcome] += 1
            if trace:
                where = trace if outcome in ("names no file", "odd sentence") else trace[-400:]
                where = re.sub(r"\d+|'[^']*'", "…", f"{reader.name} {outcome} {where}")
                if where not in faults:
                    faults[where] = f"{reader.name}, input {number}: {outcome}\n{trace}"
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, keep / f"{number}-{reader.name}")
    return outcomes, list(faults.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="parts of the names of formats, with commas between them")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that are faults")
    options = parser.parse_args()
    faulthandler.enable()
    parts = options.only.split(",") if options.only else [""]
    chosen = [reader for reader in readers() if any(part in reader.name for part in parts)]
    outcomes, faults = run(chosen, options.count, options.seed, options.keep)
    for fault in faults:
        print(fault, end="\n\n")
    for name, counts in outcomes.items():
        print(f"{name:20} {', '.join(f'{what} {n}' for what, n in counts.most_common())}")
    print(f"{sum(map(Counter.total, outcomes.values()))} inputs, {len(faults)} different faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
