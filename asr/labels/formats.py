"""A transcript, its phones and words with their times, in each format that commands write."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from asr.errors import DataError, escaped
from asr.labels import phn, textgrid
from asr.phones import phone_set, unknown_phone
from asr.records import Segment, Transcript

# Format → endings of its files, the first of them that of the phones.
FORMATS = {
    "text": (".txt",),
    "json": (".json",),
    "textgrid": (".TextGrid",),
    "phn": (".phn", ".wrd"),
    "ctm": (".ctm",),
}
TIERS = {"words": "words", "phones": "phones", "confidences": "confidences"}  # level → its name
NO_SPEECH = "no speech found"  # in place of phones
ENDS, BETWEEN = "h#", "pau"  # TIMIT's silence before, between and after phones
RATE = 16_000  # samples in a second of `.phn`, where the audio does not say


def in_format(
    transcript: Transcript,
    format: str,
    tiers: Mapping[str, str] = TIERS,
    sample_rate: int = RATE,
    complete: bool = False,
) -> str:
    """The text of a file: `format` is one of FORMATS, "wrd", or "words-ctm".

    `tiers` are the levels of a TextGrid, each with its name. `.phn` and `.wrd` count samples of
    `sample_rate`; with `complete`, TIMIT's `h#` and `pau` are where no phone is.
    """
    if format == "json":
        return json.dumps(as_record(transcript), ensure_ascii=False) + "\n"
    end_s = max([transcript.duration_s, *(one.end_s for one in transcript.phones[-1:])])
    words = [Segment(*one[:4]) for one in transcript.words or ()]
    if format == "textgrid":
        levels: dict[str, Sequence[Segment]] = {
            "words": words,
            "phones": transcript.phones,
            "confidences": [
                one._replace(phone=f"{one.confidence:.2f}") for one in transcript.phones
            ],
        }
        wanted = [one for one in levels if one in tiers]
        if transcript.words is None:
            wanted.remove("words")
        named = {tiers[one]: levels[one] for one in wanted}
        return textgrid.text_of(named, end_s)
    if format in ("phn", "wrd"):
        segments = words if format == "wrd" else transcript.phones
        if complete and format == "phn":
            segments = tuple(with_silence(segments, transcript.duration_s))
        samples = round(transcript.duration_s * sample_rate)
        return phn.text_of(Path(transcript.file), segments, samples, sample_rate)
    if format.endswith("ctm"):
        name = escaped(re.sub(r"\s", "_", transcript.file)) or "array"
        return "".join(
            f"{name} 1 {one.start_s:.6f} {one.end_s - one.start_s:.6f} {one.phone}"
            + (f" {one.confidence:.4f}\n" if one.confidence is not None else "\n")
            for one in (words if format == "words-ctm" else transcript.phones)
        )
    return _for_people(transcript)


def as_record(transcript: Transcript) -> dict[str, Any]:
    """A transcript as the object of JSON."""
    record = vars(transcript) | {"phones": [one._asdict() for one in transcript.phones]}
    if transcript.words is None:
        del record["words"]
    else:
        record["words"] = [one._asdict() for one in transcript.words]
    return record


def with_silence(phones: Sequence[Segment], duration_s: float) -> Iterator[Segment]:
    """Phones with TIMIT's silences in all gaps; `DataError` for a phone that is not TIMIT's."""
    known = phone_set("timit61")
    for one in phones:
        if one.phone not in known:
            raise DataError(unknown_phone(one.phone, known, "timit61"))
    edges = [Segment(ENDS, 0.0, 0.0), *phones, Segment(ENDS, duration_s, duration_s)]
    for before, after in pairwise(edges):
        if after.start_s > before.end_s:
            is_edge = ENDS in (before.phone, after.phone)
            yield Segment(ENDS if is_edge else BETWEEN, before.end_s, after.start_s)
        if after.end_s > after.start_s:
            yield after


def _for_people(transcript: Transcript) -> str:
    """A line of the phones and one of the words, then each phone with its times."""
    said = " ".join(one.phone for one in transcript.phones) or NO_SPEECH
    lines = [f"# {escaped(transcript.file)}, {transcript.duration_s:.2f} s: {said}"]
    first = [""] * len(transcript.phones)  # the word that begins with a phone
    if transcript.words:
        lines.append(f"  {' '.join(one.word for one in transcript.words)}")
        begin = 0
        for word in transcript.words:
            first[begin] = f"  {word.word} {word.confidence:.2f}"
            begin += len(word.phones)
    lines += [line_of(one) + word for one, word in zip(transcript.phones, first, strict=True)]
    return "\n".join(lines) + "\n"


def line_of(phone: Segment) -> str:
    """A phone with its times and its confidence, in columns."""
    return f"{phone.start_s:9.3f} {phone.end_s:9.3f}  {phone.phone:<5} {phone.confidence:.2f}"
