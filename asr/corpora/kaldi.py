"""Kaldi data directories, read and written: wav.scp, text, utt2spk, and files beside them."""

import os
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from asr.corpora.recording import Recording, Stated
from asr.errors import DataError
from asr.files import name, read_table
from asr.files.outputs import atomic_open
from asr.labels.checks import number
from asr.records import Utterance

OPTIONAL = ("spk2gender", "words", "phones.ctm")  # which `write` writes where utterances have it
ARCHIVED = re.compile(r":\d+(\[[\d:,]*\])?$")  # the first byte, and a range
FILES = ("wav.scp", "text", "utt2spk", "utt2dur", "spk2utt", *OPTIONAL)


def read(folder: Path, problems: list[str]) -> list[Recording]:
    """The utterances of wav.scp, text (as phones) and utt2spk.

    Where they exist, spk2gender is read, and utt2dur, which `check` compares with the audio.
    Fields are separated by white space of any kind. A relative path in wav.scp is looked for in the
    working directory, then in `folder`.
    """
    if (folder / "segments").exists():
        raise DataError(
            f"{folder / 'segments'}: utterances inside longer recordings are not read; cut them "
            f"first, for example with Kaldi's extract-segments or `lhotse cut trim-to-supervisions`"
        )
    for file in ("wav.scp", "text", "utt2spk"):
        if not (folder / file).is_file():
            raise DataError(
                f"{folder / file}: no such file; a Kaldi data directory has wav.scp, text, utt2spk"
            )
    audio = read_table(folder / "wav.scp", problems)
    text = read_table(folder / "text", problems)
    speakers = read_table(folder / "utt2spk", problems)
    sexes, lengths = (
        read_table(folder / file, problems) if (folder / file).is_file() else {}
        for file in ("spk2gender", "utt2dur")
    )
    problems.extend(
        f"{place}: speaker {speaker} has the sex {sex!r}, expected m or f"
        for speaker, (place, sex) in sexes.items()
        if sex_of(sex) is None
    )
    recordings = []
    for id_, (place, path) in audio.items():
        speaker_place, speaker = speakers.get(id_, ("", ""))
        if not path:
            problems.append(f"{place}: {id_} has no file; expected `utterance path`")
        elif id_ not in text:
            problems.append(
                f"{place}: {id_} has no line in {folder / 'text'}; add it, or leave both out"
            )
        elif not speaker:
            problems.append(
                f"{place}: {id_} has no line in {folder / 'utt2spk'}; add it, or leave both out"
            )
        elif not text[id_][1]:
            problems.append(f"{text[id_][0]}: {id_} has no phones; add them, or leave it out")
        else:
            line, phones = text[id_]
            try:
                recordings.append(
                    Recording(
                        name(id_, place, "an utterance"),
                        located(path, folder, place),
                        name(speaker, speaker_place, "a speaker"),
                        sex=sex_of(sexes.get(unicodedata.normalize("NFC", speaker), ("", ""))[1]),
                        phones=tuple(name(one, line, "a phone or word") for one in phones.split()),
                        place=line,
                        stated=_stated(*lengths[id_]) if id_ in lengths else None,
                    )
                )
            except DataError as error:
                problems.extend(error.problems)
    problems.extend(
        f"{place}: {id_} has no line in {folder / 'wav.scp'}; add it, or leave both out"
        for table in (text, speakers)
        for id_, (place, _) in table.items()
        if id_ not in audio
    )
    return recordings


def _stated(place: str, text: str) -> Stated:
    if (duration_s := number(text)) is None:
        raise DataError(
            f"{place}: found {text!r}, expected seconds; correct it, or remove the file"
        )
    return Stated(place, duration_s)


def sex_of(text: str | None) -> str | None:
    """m or f, also of a whole word; None for any other text."""
    first = (text or "").lower()[:1]
    return first if first in ("m", "f") else None


def located(path: str, folder: Path, place: str) -> str:
    """The absolute path of a file, named from where Kaldi's scripts run or from the data folder.

    Raises `DataError`, which begins with the `place` of the path, where there is no such file.
    """
    tried = [path if Path(path).is_absolute() else str(Path(path).absolute()), str(folder / path)]
    if (file := next(filter(os.path.exists, tried), None)) is not None:
        return file
    if path.endswith("|") or path.startswith("|"):
        raise DataError(
            f"{place}: {path!r} is a command, expected a file; run it, and name what it wrote "
            f"(sph2pipe -f wav IN OUT, or what the command is, with `> OUT.wav` in place of `|`)"
        )
    if ARCHIVED.search(path):
        raise DataError(
            f"{place}: {path!r} is in an archive, expected a file; copy it to one (Kaldi: wav-copy "
            f"{shlex.quote(path)} OUT.wav), and name that"
        )
    raise DataError(
        f"{place}: {path!r} does not exist; tried {' and '.join(dict.fromkeys(tried))}; correct "
        f"the path, or start in the folder from which it is named"
    )


def write(utterances: Sequence[Utterance], folder: Path) -> None:
    """Write wav.scp, text (the phones), utt2spk, spk2utt, utt2dur, spk2gender; sorted as LC_ALL=C.

    Where the utterances have them, times of phones go to `phones.ctm` and words to `words`.
    """
    ordered = sorted(utterances, key=lambda utterance: utterance.id.encode())
    of_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in ordered:
        for text in (utterance.id, utterance.speaker):
            if not text or len(text.split()) != 1:
                raise DataError(f"{utterance.id!r}: Kaldi takes no spaces in ids, found {text!r}")
        if utterance.audio.strip() != utterance.audio or utterance.audio.endswith("|"):
            raise DataError(f"{utterance.id}: Kaldi cannot read the path {utterance.audio!r}")
        of_speaker[utterance.speaker].append(utterance)
    speakers = sorted(of_speaker, key=str.encode)
    sexes = {s: {u.sex for u in of_speaker[s]} for s in speakers}
    known = all(len(of_one) == 1 and None not in of_one for of_one in sexes.values())
    lines = {
        "wav.scp": [f"{u.id} {u.audio}" for u in ordered],
        "text": [" ".join([u.id, *u.phones]) for u in ordered],
        "utt2spk": [f"{u.id} {u.speaker}" for u in ordered],
        "utt2dur": [f"{u.id} {u.duration_s:.6f}" for u in ordered],
        "spk2utt": [" ".join([s, *(u.id for u in of_speaker[s])]) for s in speakers],
        "spk2gender": [f"{s} {next(iter(sexes[s]))}" for s in speakers if known],
        "words": [f"{u.id} {u.words}" for u in ordered if u.words],
        "phones.ctm": [
            f"{u.id} 1 {s.start_s:.6f} {s.end_s - s.start_s:.6f} {s.phone}"
            for u in ordered
            for s in u.segments or ()
        ],
    }
    for file_name, of_file in lines.items():
        if of_file or file_name not in OPTIONAL:
            with atomic_open(folder / file_name) as file:
                file.writelines(f"{line}\n" for line in of_file)
