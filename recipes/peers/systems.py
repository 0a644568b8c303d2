"""The systems of `peers.py`: models of ours, and recognisers that pip installs with their weights.

The module of a peer is imported when its system is made, so that each can be absent.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import soundfile

from asr.audio import Waveform
from asr.corpora import lexicon
from asr.errors import DISTRIBUTION, DataError, pip_install
from asr.features.moments import Moments
from asr.files import read_lines
from asr.transcriber import WORDS, load

RATE = 16_000  # Hz, of every sound here
TABLE = Path(__file__).with_name("hama-to-arpabet.txt")
Phones = tuple[str, ...]

# For phones, from CMU's documentation; a beam is a factor below the best path.
ALLPHONE = {"lw": 2.0, "beam": 1e-20, "pbeam": 1e-20}
SILENCES = ("<s>", "</s>", "<sil>", "SIL")
FORGETTING_S = 3  # of zeros, after which moonshine's outputs are always the same


class Output(NamedTuple):
    """What a system writes for a sound: its symbols, and its text if it writes words."""

    symbols: Phones
    text: str | None = None


class System:
    """A recogniser: `decode` writes an output for a sound, whose phones are CMUdict's.

    With `arguments` Python recognises the file that follows them, as the system's documentation
    does it.
    """

    distribution: str  # that pip installs
    name: str  # with version and settings: all that an output depends on besides the sound
    files: Sequence[Path]  # of the model
    arguments: Sequence[str]
    ours = False

    def name_it(self, *settings: str) -> None:
        version = metadata.version(self.distribution)
        self.name = ", ".join([f"{self.distribution} {version}", *settings])

    def prepare(self, waveforms: Sequence[Waveform]) -> None:
        """Prepare for a speaker, given all of the speaker's waveforms."""

    def forget(self) -> None:
        """Called before each sound, and not timed: its output must not depend on those before."""

    def decode(self, waveform: Waveform) -> Output:
        raise NotImplementedError

    def phones(self, output: Output) -> Phones:
        return output.symbols


class Ours(System):
    """A model file of this project, with its own search, as `asr transcribe` uses it.

    `by_speaker` normalises over all utterances of a speaker, as `asr transcribe --one-speaker`
    does, and as models with features.normalization=speaker need it. With `words`, a file of words
    or the packaged one, it outputs words and their phones.
    """

    distribution, ours = DISTRIBUTION, True

    def __init__(self, path: Path, by_speaker: bool = False, words: Path | bool = False) -> None:
        self.transcriber = load(path, words=words)
        normalization = self.transcriber.config.features.normalization
        self.path, self.words = path, bool(words)
        self.by_speaker = by_speaker or normalization == "speaker"
        self.moments: Moments | None = None
        parent = path.absolute().parent
        of_a_run = path.stem.startswith("checkpoint-")
        self.name = f"asr, {f'{parent.parent.name}/{parent.name}' if of_a_run else path.stem}"
        self.name += ", by speaker" * self.by_speaker + ", words" * self.words
        named = WORDS if words is True else words
        self.files = [path, named] if named else [path]
        said = ["--words-file", str(named)] if named else []
        self.arguments = ["-m", "asr", "transcribe", *said, "--checkpoint", str(path)]

    def prepare(self, waveforms: Sequence[Waveform]) -> None:
        if self.by_speaker:
            self.moments = self.transcriber.one_speaker(iter([one]) for one in waveforms)

    def decode(self, waveform: Waveform) -> Output:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "sound.wav"
            soundfile.write(path, waveform, RATE, subtype="FLOAT")
            transcript = self.transcriber.transcribe_file(path, lambda _: None, self.moments)
        phones = tuple(segment.phone for segment in transcript.phones)
        said = " ".join(one.word for one in transcript.words or ())
        return Output(phones, said if self.words else None)


class Pocketsphinx(System):
    """pocketsphinx's US English model, as a loop over phones (allphone) or as a word decoder."""

    distribution = "pocketsphinx"
    program = """import sys, wave, pocketsphinx
decoder = pocketsphinx.Decoder(**{})
decoder.start_utt()
with wave.open(sys.argv[1]) as file:
    decoder.process_raw(file.readframes(file.getnframes()), full_utt=True)
decoder.end_utt()
print([part.word for part in decoder.seg()])"""

    def __init__(self, kind: str, settings: Mapping[str, float] = {}) -> None:
        from pocketsphinx import Decoder, get_model_path

        folder = Path(get_model_path()) / "en-us"
        self.words = kind == "words"
        names = ["en-us.lm.bin", "cmudict-en-us.dict"] if self.words else ["en-us-phone.lm.bin"]
        self.files = [*(folder / "en-us").iterdir(), *(folder / name for name in names)]
        graph = {} if self.words else {"allphone": str(folder / names[0]), "lm": None}
        options = {"loglevel": "FATAL", **graph, **settings}
        self.decoder = Decoder(**options)
        self.arguments = ["-c", self.program.replace("{}", repr(options))]
        said = ", ".join(f"{key} {value:g}" for key, value in settings.items())
        self.name_it(kind + (f" ({said})" if said else ""))

    def decode(self, waveform: Waveform) -> Output:
        self.decoder.start_utt()
        sound = np.clip(waveform * 32768, -32768, 32767).astype(np.int16).tobytes()
        self.decoder.process_raw(sound, full_utt=True)
        self.decoder.end_utt()
        symbols: list[str] = []
        words = []
        for part in self.decoder.seg():
            if part.word in SILENCES or part.word[0] in "+[<(":  # noises are no phones
                symbols.append("sil")
            else:
                phones = self.decoder.lookup_word(part.word) if self.words else part.word
                symbols += phones.lower().split()
                words.append(re.sub(r"\(\d+\)$", "", part.word))
        return Output(tuple(symbols), " ".join(words) if self.words else None)


class Hama(System):
    """hama's phone recogniser, whose IPA becomes CMUdict's phones by a table."""

    distribution = "hama"
    arguments = (
        "-c",
        "import sys, hama; print(hama.ASRModel().transcribe_file(sys.argv[1]).phonemes)",
    )

    def __init__(self) -> None:
        import hama

        self.model = hama.ASRModel()
        self.files = [Path(hama.__file__).parent / "assets" / "asr_waveform.hama"]
        self.name_it()

    def decode(self, waveform: Waveform) -> Output:
        return Output(tuple(self.model.transcribe_waveform(waveform, RATE).phonemes))

    def phones(self, output: Output) -> Phones:
        table = hama_phones()
        return tuple(phone for symbol in output.symbols for phone in table[symbol])


@cache
def hama_phones() -> dict[str, Phones]:
    """Each symbol of hama, and the phones of CMUdict that it stands for, none for a mark."""
    table = {}
    for line in read_lines(TABLE):
        symbols, arrow, phones = line.partition(" →")
        if arrow and not line.startswith("# "):
            for symbol in symbols.split():
                code = re.fullmatch(r"U\+([0-9A-F]{4})", symbol)
                table[chr(int(code[1], 16)) if code else symbol] = tuple(phones.split())
    return table


class Moonshine(System):
    """moonshine-voice's words (tiny-en), each with the first pronunciation of a lexicon.

    Words that the lexicon does not have are pronounced by espeak-ng, as in `asr prepare`. Its
    speech detector remembers the sound before, and finds a "So" or "The" that nobody said; zeros
    before each sound prevent that.
    """

    distribution = "moonshine-voice"
    arguments = (
        "-c",
        """import sys
from moonshine_voice import ModelArch, Transcriber, get_model_path
from moonshine_voice.utils import load_wav_file
model = Transcriber(get_model_path("tiny-en"), ModelArch.TINY)
print(model.transcribe_without_streaming(*load_wav_file(sys.argv[1])))""",
    )

    def __init__(self, pronunciations: Path | None) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_model_path

        if pronunciations is None:
            raise DataError("its words need pronunciations; set --lexicon (LEXICON=cmudict.dict)")
        folder = get_model_path("tiny-en")
        self.model = Transcriber(folder, ModelArch.TINY)
        self.files = list(folder.iterdir())
        self.dictionary = lexicon.read(pronunciations)
        self.name_it("words")

    def forget(self) -> None:
        self.decode(np.zeros(FORGETTING_S * RATE, np.float32))

    def decode(self, waveform: Waveform) -> Output:
        lines = self.model.transcribe_without_streaming(waveform.tolist(), RATE).lines
        return Output((), " ".join(line.text for line in lines))

    def phones(self, output: Output) -> Phones:
        words = words_of(output.text or "")
        first = lexicon.pronounce(dict.fromkeys(words, 1), [self.dictionary], "espeak").first()
        return tuple(phone for word in words for phone in first.get(word, ()))


NUMBER = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?)(st|nd|rd|th)?")


def words_of(text: str) -> list[str]:
    """The words of a text as they are scored: lower case, numbers spelled out, no punctuation.

    A number of four digits without comma is a year from 1100 to 1999; `21st` is an ordinal, `$5`
    five dollars, `5%` five percent, & and. Hyphens divide words; apostrophes stay inside words.
    """
    text = re.sub(r"\$([\d,.]*\d)", r"\1 dollars", lexicon.key(text))
    text = NUMBER.sub(_spelled, text.replace("&", " and ").replace("%", " percent"))
    return [word for part in re.findall(r"[^\W_]['\w]*", text) if (word := part.rstrip("'"))]


def _spelled(number: re.Match[str]) -> str:
    from num2words import num2words

    digits, ordinal = number.groups()
    year = re.fullmatch(r"1[1-9]\d\d", digits)
    kind = "ordinal" if ordinal else "year" if year else "cardinal"
    return f" {num2words(digits.replace(',', ''), to=kind)} "


def ours(
    models: Sequence[Path], one_speaker: bool, words: Path | None
) -> tuple[list[System], list[str]]:
    """Our models, also by speaker and with words, and a sentence about each without words."""
    made = [Ours(path) for path in models]
    if one_speaker:
        made += [Ours(one.path, by_speaker=True) for one in made if not one.by_speaker]
    absent = []
    for path in models:
        try:
            made.append(Ours(path, words=words or True))
        except DataError as error:
            absent.append(f"{path.stem} is without words: {error}")
    return [*made], absent


# Extras of pyproject.toml, one for each peer.
EXTRAS = ("pocketsphinx", "hama", "moonshine")


def peers(wanted: Iterable[str], pronunciations: Path | None) -> tuple[list[System], list[str]]:
    """The peers that are installed, and a sentence about each that is not."""
    systems: list[System] = []
    absent = []
    for extra in wanted:
        try:
            if extra == "pocketsphinx":
                systems += [Pocketsphinx("allphone", ALLPHONE), Pocketsphinx("words")]
            else:
                systems.append(Hama() if extra == "hama" else Moonshine(pronunciations))
        except DataError as error:
            absent.append(f"{extra} is left out: {error}")
        except (ImportError, OSError, RuntimeError) as error:  # some machines cannot load it
            absent.append(f"{extra} is left out: {error}; run: {pip_install(extra)}")
    return systems, absent
