"""What a streaming model costs and brings: errors, equality, latency, speed, and memory of an hour.

    asr align exp/librispeech-18h-stream/1/manifests/dev.jsonl --output dev.aligned.jsonl
    python recipes/streaming/measure.py model.safetensors dev.aligned.jsonl

The manifest needs the times of its phones. Every utterance is a stream of its own, in chunks of
`CHUNK_S`. PER is beside that of another model (`--against`, by default the packaged one) and of a
search over the same emissions that decides nothing before the end. The streams of `--files`
utterances are compared with `Transcriber.transcribe` for chunks of several sizes. Latency is from
the end of a phone in the manifest to the moment when `feed` returns it, computing included, for
phones that are recognised. The hour is speech and pauses through `asr listen` in a process of its
own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile

from asr import audio, scoring
from asr.errors import DataError, exit_code
from asr.records import Manifest, Segment, Utterance
from asr.scoring import protocols
from asr.scoring.counts import CORRECT
from asr.search import SearchConfig, decisions
from asr.transcriber import MODEL, Transcriber, load

CHUNK_S = 0.01
CHUNKS_S = (0.01, 0.025, 0.032, 0.1, 0.25, 1.0)  # compared with the whole
PROTOCOL = "arpabet"
CLOSE_S = 0.05
PAUSE_S = 1.5  # between utterances of the hour


class Emitted(NamedTuple):
    phone: Segment
    at_s: float  # seconds of samples that had come
    took_s: float  # to compute the chunk


def streamed(model: Transcriber, samples: audio.Waveform, chunk: int) -> Iterator[Emitted]:
    stream = model.stream()
    for begin in range(0, len(samples), chunk):
        part = samples[begin : begin + chunk]
        started = time.perf_counter()
        phones = stream.feed(part)
        took_s = time.perf_counter() - started
        for phone in phones:
            yield Emitted(phone, (begin + len(part)) / model.sample_rate, took_s)
    for phone in stream.finish():
        yield Emitted(phone, len(samples) / model.sample_rate, 0.0)


def matched(
    spoken: Mapping[str, Utterance], emitted: Mapping[str, list[Emitted]]
) -> Iterator[tuple[Segment, Emitted]]:
    """Recognised phones with their segments in the manifest."""
    rule = protocols.protocol(PROTOCOL)
    for alignment in scored(spoken, {id: phones(some) for id, some in emitted.items()}).alignments:
        id = alignment.reference.id
        _, of_reference = rule.apply(spoken[id].phones, "reference")
        _, of_hypothesis = rule.apply(phones(emitted[id]), "hypothesis")
        segments = spoken[id].segments or ()
        for op, i, j in alignment.steps():
            if op == CORRECT and i is not None and j is not None:
                yield segments[of_reference[i]], emitted[id][of_hypothesis[j]]


def phones(emitted: list[Emitted]) -> tuple[str, ...]:
    return tuple(one.phone.phone for one in emitted)


def scored(spoken: Mapping[str, Utterance], heard: Mapping[str, tuple[str, ...]]) -> scoring.Score:
    references = {id: one.phones for id, one in spoken.items()}
    speakers = {id: one.speaker for id, one in spoken.items()}
    return scoring.score(references, heard, PROTOCOL, speakers=speakers)


def per(what: str, score: scoring.Score) -> None:
    intervals = scoring.with_intervals(score).intervals
    low, high = intervals.get("speaker") or intervals["utterance"]
    counts = score.total
    print(
        f"{what:<34}{counts.per:6.2f}  ({low:.2f} … {high:.2f})  {counts.ins} ins, "
        f"{counts.dele} del, {counts.sub} sub of {counts.ref}",
        flush=True,
    )


def shares(what: str, values: list[float], unit: str = "ms", scale: float = 1000.0) -> None:
    numbers = "  ".join(
        f"p{share} {scale * float(np.percentile(values, share)):6.0f}" for share in (10, 50, 90, 99)
    )
    print(f"{what:<34}{numbers} {unit}", flush=True)


def without_decisions(model: Transcriber, samples: audio.Waveform) -> tuple[str, ...]:
    """The phones of a search that decides nothing before the end; the detector as in a stream."""
    stream = model.stream()
    search = stream._decisions
    if isinstance(search, decisions.BeamDecisions):
        search.share, search.patience = 1.0, 10**6
    result = [*stream.feed(samples), *stream.finish()]
    return tuple(one.phone for one in result)


def peak_of(process: int) -> int:
    """Peak of resident memory in KB; that of wait4 counts the parent's too. 0 at its end."""
    try:
        status = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)


def hour(model: Path, waveforms: list[audio.Waveform], rate: int, seconds: int) -> None:
    """Peak memory and CPU time of `asr listen` for that many seconds of speech."""
    pause = np.zeros(round(PAUSE_S * rate), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "hour.raw")
        count = 0
        with soundfile.SoundFile(whole, "w", rate, 1, "PCM_16", format="RAW") as file:
            while count < seconds * rate:
                for waveform in waveforms:
                    for part in (waveform, pause):
                        file.write(part[: max(0, seconds * rate - count)])
                        count += len(part)
        command = [sys.executable, "-m", "asr", "listen", "-", "--checkpoint", str(model)]
        command += ["--rate", str(rate), "--encoding", "s16"]
        # the first use of a model unpacks its n-gram, in another process
        subprocess.run(command, input=bytes(2 * rate), capture_output=True, check=True)
        started = time.perf_counter()
        with open(whole, "rb") as source:
            told = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE)
            assert told.stdout is not None
            lines, peak = 0, 0
            for lines, _ in enumerate(told.stdout, start=1):  # noqa: B007
                peak = max(peak, peak_of(told.pid))
            _, status, usage = os.wait4(told.pid, 0)
    if status:
        raise DataError(f"asr listen ended with {status}")
    cpu_s = usage.ru_utime + usage.ru_stime
    print(
        f"{seconds} s through asr listen: {lines} phones, peak {peak >> 10} MB, "
        f"{cpu_s:.0f} s of CPU, {time.perf_counter() - started:.0f} s"
    )


@exit_code
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--against", type=Path, default=MODEL, help="default: the packaged model")
    parser.add_argument("--files", type=int, default=50, help="for equality (default: 50)")
    parser.add_argument("--utterances", type=int, help="for errors and latency; default: all")
    parser.add_argument("--hour", type=int, default=3600, metavar="S", help="0: not at all")
    parser.add_argument("--share", type=float, help="of the beam's mass; default: the file's")
    parser.add_argument("--patience", type=float, metavar="S", help="likewise")
    parser.add_argument("--greedy", action="store_true", help="in place of the search of the file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    model = load(options.model, stream=True)
    rate = model.sample_rate
    if options.greedy:
        model.search = SearchConfig()
    how = model.streaming or decisions.Streaming()
    share, patience_s = options.share or how.share, options.patience or how.patience_s
    model.streaming = replace(how, share=share, patience_s=patience_s)
    spoken = {one.id: one for one in list(Manifest(options.manifest))[: options.utterances]}
    if not spoken or not all(one.segments for one in spoken.values()):
        raise DataError(f"{options.manifest}: no times of phones; `asr align --output` adds them")
    waveforms = {id: audio.load(one.audio, rate) for id, one in spoken.items()}
    duration_s = sum(map(len, waveforms.values())) / rate
    print(f"{len(spoken)} utterances, {duration_s / 60:.1f} minutes, one thread\n")
    list(streamed(model, next(iter(waveforms.values())), rate))  # compiles

    started = time.process_time()
    emitted = {
        id: list(streamed(model, one, round(CHUNK_S * rate))) for id, one in waveforms.items()
    }
    spent_s = time.process_time() - started
    per("stream", scored(spoken, {id: phones(some) for id, some in emitted.items()}))
    whole = {id: without_decisions(model, one) for id, one in waveforms.items()}
    per("decided at the end only", scored(spoken, whole))
    other = load(options.against)
    heard = {id: other.transcribe(one, rate).phones for id, one in waveforms.items()}
    per(
        options.against.name,
        scored(spoken, {k: tuple(p.phone for p in v) for k, v in heard.items()}),
    )
    print(f"\nCPU time of a second: {spent_s / duration_s:.4f} s, in chunks of {CHUNK_S:g} s")

    pairs = list(matched(spoken, emitted))
    shares("latency", [one.at_s + one.took_s - said.end_s for said, one in pairs])
    shares("of it, computing", [one.took_s for _, one in pairs])
    for edge in ("start_s", "end_s"):
        off = [getattr(one.phone, edge) - getattr(said, edge) for said, one in pairs]
        shares(f"{edge} − that of the manifest", off)
        close = float(np.mean(np.abs(off) <= CLOSE_S))
        print(f"{'':<34}{close:.1%} within {1000 * CLOSE_S:g} ms")

    unequal = 0
    draw = np.random.default_rng(0)
    chosen = list(waveforms)[: options.files]
    for id in chosen:
        reference = list(model.transcribe(waveforms[id], rate).phones)
        for size_s in CHUNKS_S:
            results = streamed(model, waveforms[id], round(size_s * rate))
            unequal += reference != [one.phone for one in results]
        stream, left, results_ = model.stream(), waveforms[id], list[Segment]()
        while len(left):
            size = int(draw.integers(1, rate))
            results_ += stream.feed(left[:size])
            left = left[size:]
        unequal += reference != [*results_, *stream.finish()]
    print(
        f"\n{len(chosen)} utterances in chunks of {', '.join(f'{s:g}' for s in CHUNKS_S)} s and "
        f"of random sizes: {unequal} streams differ from the whole"
    )
    if options.hour:
        hour(options.model, list(waveforms.values()), rate, options.hour)
    return int(unequal > 0)


if __name__ == "__main__":
    sys.exit(main())
