"""Readers of files with times: NIST's ctm and stm, and HTK's master label file (mlf).

A recording and its channel are one utterance. Its id is the recording, or `recording-channel` where
the file has several channels of the recording; channels 1 and 2 are A and B, as at NIST.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain, pairwise

from asr.errors import DataError
from asr.scoring.transcripts import Part, Transcript, Transcripts, keyed, phones_of

CHANNELS = {"1": "A", "2": "B"}
LATEST_S = 1e9
HTK_UNITS = 10_000_000  # a second, of 100 ns
NUMBER = r"[-+]?\d[-+.e\d]*|nan|inf"
IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
CTM = "`utterance-id channel start duration phone` and perhaps a confidence"
STM = "`recording channel speaker start end <labels> phone phone`"

Lines = Iterator[tuple[int, str]]
Source = tuple[str, str]  # recording and channel


def read_ctm(path: str, lines: Lines) -> Iterator[Transcript]:
    """A phone a line; the phones of an utterance are put in order of their start."""
    spoken: dict[Source, list[tuple[float, float, str]]] = {}
    first_line: dict[Source, int] = {}
    for number, line in lines:
        fields = line.split()
        if len(fields) not in (5, 6):
            raise DataError(
                f"{path}:{number}: expected {CTM}, found {len(fields)} fields: {shown(line)}"
            )
        recording, channel, start, duration, phone = fields[:5]
        start_s = _number(start, "a start in seconds", path, number)
        end_s = start_s + _number(duration, "a duration in seconds", path, number)
        if fields[5:] not in ([], ["NA"]):
            _number(fields[5], "a confidence", path, number)
        source = recording, CHANNELS.get(channel, channel)
        first_line.setdefault(source, number)
        spoken.setdefault(source, []).append((start_s, end_s, phone))
    for source, (id_, speaker) in _ids(spoken).items():
        timed = sorted(spoken[source], key=lambda one: one[0])
        phones = phones_of([phone for _, _, phone in timed], f"{path}:{first_line[source]}")
        times = tuple((start_s, end_s) for start_s, end_s, _ in timed)
        yield Transcript(id_, phones, first_line[source], times, speaker, channel=source[1])


def read_stm(path: str, lines: Lines) -> Transcripts:
    """A part of a recording a line; parts that are not to be scored are kept without phones."""
    parts: dict[Source, list[Part]] = {}
    for number, line in lines:
        where = f"{path}:{number}"
        fields = line.split()
        if len(fields) < 5:
            raise DataError(f"{where}: expected {STM}, found {shown(line)}")
        recording, channel, speaker, start, end, *words = fields
        start_s = _number(start, "a start in seconds", path, number)
        end_s = _number(end, "an end in seconds", path, number)
        if end_s < start_s:
            raise DataError(f"{where}: the end {end} is before the start {start}; correct one")
        if words and re.fullmatch(r"<.*>", words[0]):
            del words[0]
        refuse_alternatives(words, where)
        phones = None if [word.upper() for word in words] == [IGNORED] else phones_of(words, where)
        source = recording, CHANNELS.get(channel, channel)
        parts.setdefault(source, []).append(Part(start_s, end_s, phones, speaker, number))
    transcripts, segments = [], {}
    for source, (id_, _) in _ids(parts).items():
        of_source = sorted(parts[source], key=lambda part: part.start_s)
        for before, part in pairwise(of_source):
            if part.start_s < before.end_s - 1e-6:
                raise DataError(
                    f"{path}:{part.line}: starts at {part.start_s:g} s, before the end "
                    f"{before.end_s:g} s of line {before.line}, of the same channel; expected "
                    f"segments without overlap"
                )
        phones = tuple(chain.from_iterable(part.phones or () for part in of_source))
        speakers = {part.speaker for part in of_source if part.phones is not None}
        one = Transcript(id_, phones, of_source[0].line, channel=source[1])
        transcripts.append(one._replace(speaker=speakers.pop() if len(speakers) == 1 else None))
        if len(of_source) > 1 or of_source[0].phones is None:
            segments[id_] = tuple(of_source)
    return Transcripts(path, keyed(path, transcripts), segments=segments)


def read_mlf(path: str, lines: Lines) -> Iterator[Transcript]:
    """`"*/name.lab"`, lines `[start [end]] label [score]` in 100 ns, and a line with a dot."""
    file, first, labels, times = "", 0, list[str](), list[tuple[float, float]]()
    for number, line in lines:
        where, fields = f"{path}:{number}", line.split()
        if not file:
            if not (named := re.fullmatch(r'\s*"([^"]+)"\s*', line)):
                if line.strip() == "#!MLF!#":
                    continue
                raise DataError(f'{where}: expected `"*/name.lab"`, found {shown(line)}')
            file, first, labels, times = named[1], number, [], []
        elif fields == ["."]:
            all_timed = tuple(times) if len(times) == len(labels) else None
            yield Transcript("", phones_of(labels, where), first, all_timed, file=file)
            file = ""
        elif fields == ["///"]:
            raise DataError(f"{where}: alternatives (///) are not scored; keep the first")
        else:
            span: list[float] = []
            while (
                len(fields) > 1 and len(span) < 2 and re.fullmatch(r"[-+\d.]+|nan|inf", fields[0])
            ):
                if not re.fullmatch(r"[0-9]{1,16}", fields[0]):
                    expected = "a time as a whole number of 100 ns"
                    raise DataError(f"{where}: expected {expected}, found {fields[0]!r}")
                span.append(int(fields.pop(0)) / HTK_UNITS)
            if span != sorted(span):
                raise DataError(f"{where}: the end is before the start: {shown(line)}")
            labels.append(re.sub(r"""^(["'])(.+)\1$""", r"\2", fields[0]))
            times += [(span[0], span[1])] if len(span) == 2 else []
    if file:
        raise DataError(f"{path}:{first}: {file} has no end, expected a line with a dot after it")


def refuse_alternatives(words: Collection[str], where: str) -> None:
    """Raise `DataError` for sclite's `{ a / b }`."""
    if "{" in words:
        raise DataError(
            f"{where}: alternatives {{ a / b }} are not scored; keep the one that was spoken"
        )


def shown(line: str) -> str:
    """A line in a message, at most 60 characters of it."""
    return repr(line if len(line) <= 60 else line[:57] + "…")


def _ids(sources: Collection[Source]) -> dict[Source, tuple[str, str | None]]:
    """Id and speaker of each recording and channel; the channels of one are several speakers."""
    channels = Counter(recording for recording, _ in sources)
    return {
        source: ("-".join(source),) * 2 if channels[source[0]] > 1 else (source[0], None)
        for source in sources
    }


def _number(text: str, what: str, path: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < LATEST_S or "_" in text:
        raise DataError(f"{path}:{line}: expected {what}, at least 0, found {text!r}")
    return value
