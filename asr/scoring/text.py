"""Transcripts in lines of text: sclite's trn, Kaldi's text, NIST's ctm and stm, HTK's mlf.

A recording and its channel are one utterance. Its id is the recording, or `recording-channel` where
the file has several channels of the recording; channels 1 and 2 are A and B, as at NIST.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, pairwise

from asr.errors import DataError
from asr.labels.checks import number as as_number
from asr.labels.formats import NO_SPEECH
from asr.scoring.transcripts import Part, Transcript, phones_of

CHANNELS = {"1": "A", "2": "B"}
LATEST_S = 1e9
HTK_UNITS = 10_000_000  # a second, of 100 ns
IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
ALTERNATIVES = re.compile(r"\{[^{}]*/[^{}]*\}|<ALT")  # of sclite; { alone is a vowel of X-SAMPA
TRANSCRIBED = re.compile(rf"# (.+), (\d+\.\d\d) s:(?: {NO_SPEECH}|(.*))")  # its first line

Lines = Iterator[tuple[int, str]]  # without blank ones and comments, and their numbers
Source = tuple[str, str]  # recording and channel


def read_trn(path: str, lines: Lines) -> Iterator[Transcript]:
    for number, line in lines:
        text, parenthesis, id_and_end = line.rpartition("(")
        id_, closed, rest = id_and_end.partition(")")
        if not (parenthesis and closed and id_.strip()) or rest.strip():
            raise _unlike("`phone phone (utterance-id)`", path, number, line)
        if "{" in text:
            _refuse_alternatives(text, path, number)
        yield Transcript(id_.strip(), tuple(text.split()), number)


def read_text(path: str, lines: Lines) -> Iterator[Transcript]:
    """Kaldi's `id phone phone`, or `# file, seconds s: phone phone` and a line for each phone."""
    file = ""
    for number, line in lines:
        if transcribed := TRANSCRIBED.fullmatch(line):
            file = transcribed[1]
            yield Transcript("", tuple((transcribed[3] or "").split()), number, file=file)
        elif not line[0].isspace():
            id_, *phones = line.split()
            yield Transcript(id_, tuple(phones), number)
        elif not file:  # otherwise the times of a phone
            raise _unlike("`utterance-id phone phone`, without space before it", path, number, line)


def read_ctm(path: str, lines: Lines) -> Iterator[Transcript]:
    """A phone a line; the phones of an utterance are put in order of their start."""
    spoken: dict[Source, list[tuple[float, float, str]]] = {}
    first: dict[Source, int] = {}
    for number, line in lines:
        fields = line.split()
        if len(fields) not in (5, 6) or fields[2] == "*":
            _refuse_alternatives(line, path, number)
            expected = "`utterance-id channel start duration phone` and perhaps a confidence"
            raise _unlike(expected, path, number, line)
        source, (start, duration, phone, *confidence) = _source(fields), fields[2:]
        start_s = _number(start, "a start in seconds", path, number)
        end_s = start_s + _number(duration, "a duration in seconds", path, number)
        if confidence and confidence[0].strip("<>").upper() not in ("NA", "-"):
            _number(confidence[0], "a confidence", path, number)
        first.setdefault(source, number)
        spoken.setdefault(source, []).append((start_s, end_s, phone))
    for source, (id_, speaker) in _ids(spoken).items():
        in_order = sorted(spoken[source], key=lambda one: one[0])
        times = tuple((start_s, end_s) for start_s, end_s, _ in in_order)
        phones = tuple(phone for _, _, phone in in_order)
        yield Transcript(id_, phones, first[source], times, speaker, channel=source[1])


def read_stm(path: str, lines: Lines) -> Iterator[Transcript]:
    """A part of a recording a line; parts that are not to be scored are kept without phones."""
    parts: dict[Source, list[Part]] = {}
    for number, line in lines:
        *fields, rest = [*line.split(maxsplit=5), ""][:6]
        if len(fields) < 5:
            expected = "`recording channel speaker start end <labels> phone phone`"
            raise _unlike(expected, path, number, line)
        start_s = _number(fields[3], "a start in seconds", path, number)
        end_s = _number(fields[4], "an end in seconds", path, number)
        if end_s < start_s:
            raise _unlike("an end that is not before the start", path, number, line)
        text = re.sub(r"^<[^<>]*>", "", rest)
        _refuse_alternatives(text, path, number)
        ignored = text.strip().upper() == IGNORED
        phones = None if ignored else phones_of(text.split(), f"{path}:{number}")
        part = Part(start_s, end_s, phones, fields[2], number)
        parts.setdefault(_source(fields), []).append(part)
    for source, (id_, _) in _ids(parts).items():
        in_order = tuple(sorted(parts[source], key=lambda part: part.start_s))
        for before, part in pairwise(in_order):
            if part.start_s < before.end_s - 1e-6:
                raise DataError(
                    f"{path}:{part.line}: starts at {part.start_s:g} s, before the end "
                    f"{before.end_s:g} s of line {before.line}, of the same channel; expected "
                    f"segments without overlap"
                )
        every = tuple(chain.from_iterable(part.phones or () for part in in_order))
        speakers = {part.speaker for part in in_order if part.phones is not None}
        yield Transcript(
            id_,
            every,
            in_order[0].line,
            speaker=speakers.pop() if len(speakers) == 1 else None,
            channel=source[1],
            parts=in_order if len(in_order) > 1 or in_order[0].phones is None else (),
        )


def read_mlf(path: str, lines: Lines) -> Iterator[Transcript]:
    """`"*/name.lab"`, lines `[start [end]] label [score]` in 100 ns, and a line with a dot."""
    file, first, labels, times = "", 0, list[str](), list[tuple[float, float]]()
    for number, line in lines:
        fields = line.split()
        if not file:
            if named := re.fullmatch(r'\s*"([^"]+)"\s*', line):
                file, first, labels, times = named[1], number, [], []
            elif line.strip() != "#!MLF!#":
                raise _unlike('`"*/name.lab"`', path, number, line)
        elif fields == ["."]:
            all_timed = tuple(times) if len(times) == len(labels) else None
            yield Transcript("", tuple(labels), first, all_timed, file=file)
            file = ""
        elif fields == ["///"]:
            _refuse_alternatives("{/}", path, number)
        else:
            span: list[float] = []
            while len(fields) > 1 and len(span) < 2 and re.match(r"[-+\d.]|nan|inf", fields[0]):
                if not re.fullmatch(r"[0-9]{1,16}", fields[0]):
                    raise _unlike("a time as a whole number of 100 ns", path, number, fields[0])
                span.append(int(fields.pop(0)) / HTK_UNITS)
            if span != sorted(span):
                raise _unlike("an end that is not before the start", path, number, line)
            labels.append(re.sub(r"""^(["'])(.+)\1$""", r"\2", fields[0]))
            times += [(span[0], span[1])] if len(span) == 2 else []
    if file:
        raise DataError(f"{path}:{first}: {file} has no end, expected a line with a dot after it")


def _refuse_alternatives(text: str, path: str, number: int) -> None:
    if ALTERNATIVES.search(text):
        raise DataError(
            f"{path}:{number}: alternatives {{ a / b }} are not scored; keep the one that was "
            f"spoken"
        )


def _unlike(expected: str, path: str, number: int, line: str) -> DataError:
    shortened = line if len(line) <= 60 else line[:57] + "…"
    return DataError(f"{path}:{number}: expected {expected}, found {shortened!r}")


def _number(text: str, what: str, path: str, number: int) -> float:
    value = as_number(text)
    if value is None or not 0 <= value < LATEST_S:
        raise _unlike(f"{what}, at least 0", path, number, text)
    return value


def _source(fields: Sequence[str]) -> Source:
    return fields[0], CHANNELS.get(fields[1], fields[1].upper())


def _ids(sources: Collection[Source]) -> dict[Source, tuple[str, str | None]]:
    """Id and speaker of each recording and channel; the channels of one are several speakers."""
    channels = Counter(recording for recording, _ in sources)
    return {
        source: ("-".join(source),) * 2 if channels[source[0]] > 1 else (source[0], None)
        for source in sources
    }
