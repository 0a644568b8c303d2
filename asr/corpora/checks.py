"""One recording → an utterance, or all that is wrong with its files.

`check` is a pure function, which `manifests.write` runs in many processes.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from asr import audio, labels
from asr.audio import AudioInfo
from asr.corpora.recording import Corpus, Recording, Stated
from asr.errors import DataError
from asr.labels.phn import OVERSHOOT_SAMPLES
from asr.records import Segment, Utterance

EDGE_S, INSIDE_S = 1.0, 0.5  # unlabelled parts that need no warning, see `_gaps`
STATED_S = 0.1  # by which a stated length may be wrong: programs read the ends of MP3 differently


@dataclass(frozen=True, slots=True)
class Checked:
    """The utterance of a recording, or the problems for which there is none."""

    utterance: Utterance | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    content: int = 0  # hash of the samples; 0: silent, or not decoded
    sentence: int = 0  # hash of the words; 0: not known


def check(recording: Recording, split: str, corpus: Corpus) -> Checked:
    """Open and decode the files of a recording, and list everything that is wrong with them.

    In a corpus with folders for `converted` recordings, one of another rate or of several channels
    is written there, and its utterance names that file. Labels are those of the original.
    """
    path = final = recording.audio
    original, warnings = None, list[str]()
    window_samples = round(corpus.window_s * corpus.sample_rate)
    try:
        if corpus.converted is not None:
            original = audio.info(path)
            if (original.sample_rate, original.channels) != (corpus.sample_rate, 1):
                name = f"{quote(recording.id, safe=' ')}.flac"
                path, final = (str(folder / name) for folder in corpus.converted)
                warnings += audio.convert(
                    recording.audio, Path(path), corpus.sample_rate, window_samples, corpus.channel
                )
    except DataError as error:
        return Checked(None, error.problems)
    sound = audio.inspect(path, corpus.sample_rate, window_samples)
    problems = [problem.replace(path, recording.audio) for problem in sound.problems]
    if path == recording.audio:
        warnings.extend(sound.warnings)
    words = recording.words or ""
    if recording.text is not None:
        try:
            words = labels.words(recording.text)
        except DataError as error:
            warnings.extend(error.problems)
    sentence = " ".join(re.findall(r"[\w']+", words.lower())).encode()
    utterance, header = None, sound.header
    if recording.stated is not None and header is not None:
        problems.extend(_contradictions(recording, recording.stated, original or header, corpus))
    if header is not None and header.sample_rate == corpus.sample_rate:
        labelled = original or header
        try:
            phones, segments = corpus.labeller(recording, labelled)
        except DataError as error:
            problems.extend(error.problems)
        else:
            if recording.words is None:  # else the labels were chosen without silence
                warnings.extend(_gaps(recording, segments, labelled))
            if segments and segments[-1].end_s > header.duration_s:  # by less than a sample
                segments = (*segments[:-1], segments[-1]._replace(end_s=header.duration_s))
            if not problems:
                is_aligned = corpus.pronunciation and segments
                utterance = Utterance(
                    id=recording.id,
                    audio=final,
                    duration_s=header.duration_s,
                    speaker=recording.speaker,
                    phones=phones,
                    segments=segments,
                    corpus=corpus.named.get(split, corpus.name),
                    split=split,
                    sex=recording.sex,
                    dialect=recording.dialect,
                    words=recording.words,
                    pronunciation="aligned" if is_aligned else corpus.pronunciation,
                )
    if utterance is None and path != recording.audio:
        Path(path).unlink()
    return Checked(
        utterance,
        tuple(problems),
        tuple(warnings),
        sound.content or 0,
        int.from_bytes(hashlib.blake2b(sentence, digest_size=8).digest()) if sentence else 0,
    )


def _contradictions(
    recording: Recording, stated: Stated, header: AudioInfo, corpus: Corpus
) -> Iterator[str]:
    """A sentence for each statement of the corpus about the audio that its header contradicts."""
    where = f"{stated.place} ({recording.id})"
    remedy = "make this file again from the audio, or restore the audio that it was made from"
    rate, samples = header.sample_rate, header.samples
    if stated.sample_rate not in (None, rate):
        yield f"{where}: says {stated.sample_rate} Hz, the audio has {rate} Hz; {remedy}"
    elif stated.samples is not None and abs(stated.samples - samples) > STATED_S * rate:
        yield f"{where}: says {stated.samples} samples, the audio has {samples}; {remedy}"
    length_s = stated.duration_s
    if length_s is not None and abs(length_s - header.duration_s) > STATED_S:
        yield f"{where}: says {length_s:.9g} s, the audio has {header.duration_s:.9g} s; {remedy}"
    of_file = tuple(range(header.channels))
    if stated.channels is not None and tuple(sorted(stated.channels)) != of_file:
        said = f"says channels {list(stated.channels)}, the audio has {list(of_file)}"
        yield f"{where}: {said}; {remedy}"
    if stated.used is None:
        return
    where, used = recording.named, tuple(sorted(stated.used))
    if not set(used) <= set(of_file):
        said = f"is of channel {_listed(used)}, the audio has {_listed(of_file)}"
        yield f"{where}: {said} (counted from 0); correct the channel, or restore the audio"
    elif corpus.converted is not None and len(of_file) > 1:
        read = of_file if corpus.channel is None else (corpus.channel - 1,)
        if used != read:
            how = f"corpus.channel={corpus.channel}" if corpus.channel else "all channels mixed"
            yield (
                f"{where}: is of channel {_listed(used)} (counted from 0), which is not what is "
                f"read, {how}; set corpus.channel={used[0] + 1} (counted from 1) where that is so "
                f"for all, or write each channel to a file first, with Lhotse's save_audios"
            )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _gaps(
    recording: Recording, segments: tuple[Segment, ...] | None, header: AudioInfo
) -> Iterator[str]:
    """A warning for a label file that leaves more of the audio unlabelled than is usual.

    TIMIT's `.phn` label everything. In other formats silence often has no label: at either edge at
    most EDGE_S or a quarter of the audio is usual, and between labels INSIDE_S or a tenth.
    """
    if not segments or recording.labels is None:
        return
    duration_s, place, per_second = header.duration_s, "{:.9g} to {:.9g} s", 1
    if recording.labels.lower().endswith(".phn"):
        place, per_second = "samples {:.9g} to {:.9g}", header.sample_rate
        limits = 0.0, 0.0, OVERSHOOT_SAMPLES / header.sample_rate
    else:
        edge_s = min(EDGE_S, duration_s / 4)
        limits = edge_s, min(INSIDE_S, duration_s / 10), edge_s
    ends = [0.0, *(s.end_s for s in segments)]
    starts = [*(s.start_s for s in segments), duration_s]
    gaps = [
        (end, start)
        for number, (end, start) in enumerate(zip(ends, starts, strict=True))
        if start - end > limits[(number > 0) + (number == len(segments))] + 1e-6
    ]
    if gaps:
        places = ", ".join(
            place.format(end * per_second, start * per_second) for end, start in gaps[:3]
        )
        more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        total_s = sum(start - end for end, start in gaps)
        yield (
            f"{recording.labels}: no label for {places}{more}: {total_s:.2f} of {duration_s:.2f} s "
            f"are unlabelled"
        )
