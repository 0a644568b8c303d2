"""The systems of `peers.py`: models of ours, and recognisers that pip installs with their weights.

The module of a peer is imported when the system is made, so that each can be absent.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import soundfile

import asr
from asr.audio import Waveform
from asr.corpora import lexicon
from asr.errors import DISTRIBUTION, DataError, pip_install
from asr.features import SpeakerMoments
from asr.files import read_lines
from asr.transcriber import load

RATE = 16_000  # Hz, of every sound here
TABLE = Path(__file__).with_name("hama-to-arpabet.txt")
Settings = Mapping[str, float]
Phones = tuple[str, ...]

# For phonemes, from CMU's documentation; a beam is a factor below the best path.
ALLPHONE = {"lw": 2.0, "beam": 1e-20, "pbeam": 1e-20}
WORDS: dict[str, float] = {}  # the defaults
FORGETTING_S = 3  # of zeros, after which moonshine's outputs are always the same
SILENCES = ("<s>", "</s>", "<sil>", "SIL")


class Output(NamedTuple):
    """What a system writes for a sound: its symbols, and its text if it writes words."""

    symbols: Phones
    text: str | None = None


class System:
    """A recogniser: `decode` turns a sound into its output, `phones` outputs into CMUdict's phones.

    `identity` is all that its outputs depend on besides the sound. With `arguments` Python
    recognises the file that follows them, as the documentation of the system does.
    """

    name: str
    distribution: str  # that pip installs
    arguments: Sequence[str]
    identity: str
    model_mb: float
    ours = False

    def prepare(self, waveforms: Sequence[Waveform]) -> None:
        """Prepare for a speaker, given all of the speaker's waveforms."""

    def forget(self) -> None:
        """Called before each sound, and not timed: its output must not depend on those before."""

    def decode(self, waveform: Waveform) -> Output:
        raise NotImplementedError

    def phones(self, outputs: Mapping[str, Output]) -> dict[str, Phones]:
        """The phones of each output by id, as this system's symbols."""
        return {id: output.symbols for id, output in outputs.items()}

    def identified(self, *settings: object) -> None:
        version = metadata.version(self.distribution)
        self.identity = " ".join(map(str, [self.name, version, *settings]))


class Pocketsphinx(System):
    """pocketsphinx's US English model, as a loop over phones or as a word decoder."""

    distribution = "pocketsphinx"
    program = """import sys, wave, pocketsphinx
decoder = pocketsphinx.Decoder(loglevel="FATAL"{allphone})
decoder.start_utt()
with wave.open(sys.argv[1]) as file:
    decoder.process_raw(file.readframes(file.getnframes()), full_utt=True)
decoder.end_utt()
print([part.word for part in decoder.seg()])"""

    def __init__(self, kind: str, settings: Settings, name: str) -> None:
        from pocketsphinx import Decoder, get_model_path

        folder = Path(get_model_path()) / "en-us"
        acoustic = [path for path in (folder / "en-us").iterdir() if path.is_file()]
        self.words = kind == "words"
        graph: dict[str, Any] = {}
        if self.words:
            used = [*acoustic, folder / "en-us.lm.bin", folder / "cmudict-en-us.dict"]
        else:
            used = [*acoustic, folder / "en-us-phone.lm.bin"]
            graph = {"allphone": str(folder / "en-us-phone.lm.bin"), "lm": None}
        self.decoder = Decoder(loglevel="FATAL", **graph, **settings)
        options = "".join(f", {key}={value!r}" for key, value in {**graph, **settings}.items())
        self.arguments = ["-c", self.program.replace("{allphone}", options)]
        said = ", ".join(f"{key} {value:g}" for key, value in settings.items()) or "its defaults"
        self.name = f"pocketsphinx {kind}, {name} ({said})"
        self.model_mb = megabytes(used)
        self.identified()

    def decode(self, waveform: Waveform) -> Output:
        sound = np.clip(waveform * 32768, -32768, 32767).astype(np.int16).tobytes()
        self.decoder.start_utt()
        self.decoder.process_raw(sound, full_utt=True)
        self.decoder.end_utt()
        parts = [part.word for part in self.decoder.seg()]
        symbols = tuple(phone for part in parts for phone in self._phones(part))
        said = " ".join(re.sub(r"\(\d+\)$", "", part) for part in parts if not _is_no_word(part))
        return Output(symbols, said if self.words else None)

    def _phones(self, word: str) -> list[str]:
        if _is_no_word(word):  # noises are no phones
            return ["sil"]
        return (self.decoder.lookup_word(word) if self.words else word).lower().split()


def _is_no_word(word: str) -> bool:
    return word in SILENCES or word[0] in "+[<("


class Hama(System):
    """hama's phoneme recogniser, whose IPA becomes CMUdict's phones by a table."""

    name = distribution = "hama"
    arguments = (
        "-c",
        "import sys, hama; print(hama.ASRModel().transcribe_file(sys.argv[1]).phonemes)",
    )

    def __init__(self) -> None:
        import hama

        self.model = hama.ASRModel()
        self.model_mb = megabytes([Path(hama.__file__).parent / "assets" / "asr_waveform.hama"])
        self.name += f" {metadata.version('hama')}"
        self.identified()

    def decode(self, waveform: Waveform) -> Output:
        return Output(tuple(self.model.transcribe_waveform(waveform, RATE).phonemes))

    def phones(self, outputs: Mapping[str, Output]) -> dict[str, Phones]:
        table = hama_phones()
        return {
            id: tuple(phone for symbol in output.symbols for phone in table[symbol])
            for id, output in outputs.items()
        }


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

    def __init__(self, dictionary: Path) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_model_path

        folder = get_model_path("tiny-en")
        self.model = Transcriber(folder, ModelArch.TINY)
        self.model_mb = megabytes(folder.iterdir())
        self.dictionary = dictionary
        self.name = f"moonshine-voice {metadata.version('moonshine-voice')} words"
        self.identified(FORGETTING_S, "s of zeros before each sound")

    def forget(self) -> None:
        self.decode(np.zeros(FORGETTING_S * RATE, np.float32))

    def decode(self, waveform: Waveform) -> Output:
        lines = self.model.transcribe_without_streaming(waveform.tolist(), RATE).lines
        return Output((), " ".join(line.text for line in lines))

    def phones(self, outputs: Mapping[str, Output]) -> dict[str, Phones]:
        said = {id: words_of(output.text or "") for id, output in outputs.items()}
        counts = Counter(word for words in said.values() for word in words)
        first = lexicon.pronounce(counts, [_dictionary(self.dictionary)], "espeak").first()
        return {
            id: tuple(phone for word in words for phone in first.get(word, ()))
            for id, words in said.items()
        }


@cache
def _dictionary(path: Path) -> lexicon.Dictionary:
    return lexicon.read(path)


NUMBER = re.compile(r"([$£€]?)(\d+(?:,\d{3})*)(\.\d+)?(st|nd|rd|th|%)?(?!\d)")
MONEY = {"$": " dollars", "£": " pounds", "€": " euros", "": ""}
YEARS = range(1100, 2000)  # read as two numbers: nineteen thirty


def words_of(text: str) -> list[str]:
    """The words of a text as they are scored: lower case, numbers spelled out, no punctuation.

    A number of four digits without comma is a year from 1100 to 1999; `21st` is an ordinal, `$5`
    five dollars, `5%` five percent, & and. Hyphens divide words; apostrophes stay inside words.
    """
    text = NUMBER.sub(_spelled, lexicon.key(text)).replace("&", " and ")
    return [word for part in re.findall(r"[^\W_]['\w]*", text) if (word := part.rstrip("'"))]


def _spelled(number: re.Match[str]) -> str:
    from num2words import num2words

    money, digits, fraction, end = number.groups("")
    value = int(digits.replace(",", ""))
    if fraction:
        said = num2words(float(f"{value}{fraction}"))
    elif end and end != "%":
        said = num2words(value, to="ordinal")
    else:
        year = len(digits) == 4 and value in YEARS and not money
        said = num2words(value, to="year" if year else "cardinal")
    return f" {said}{MONEY[money]}{' percent' if end == '%' else ''} "


class Ours(System):
    """A model file of this project, with its own search, as `asr transcribe` uses it.

    `by_speaker` normalises over all utterances of a speaker, as `asr transcribe --one-speaker`
    does, and as models with features.normalization=speaker need it. With `words`, a file of words
    or the packaged one, it outputs the words of `asr transcribe --words` and their phones.
    """

    distribution = DISTRIBUTION
    ours = True

    def __init__(self, path: Path, by_speaker: bool = False, words: Path | bool = False) -> None:
        options: dict[str, Any] = {"words": words} if words else {}
        self.transcriber = load(path, **options)
        self.moments: SpeakerMoments | None = None
        features = self.transcriber.recognizer.config.features
        self.path = path
        self.by_speaker = by_speaker or features.normalization == "speaker"
        self.words = bool(words)
        run = path.absolute().parent
        of_a_run = path.stem.startswith("checkpoint-")
        self.name = f"asr, {f'{run.parent.name}/{run.name}' if of_a_run else path.stem}"
        self.name += ", by speaker" * self.by_speaker + ", words" * self.words
        packaged = package() / "pretrained" / "words.safetensors"
        files = [path, *([packaged if words is True else Path(words)] if words else [])]
        self.model_mb = megabytes(files)
        named = [str(words)] if words and words is not True else []
        said = ["--words", *named] if words else []
        self.arguments = ["-m", "asr", "transcribe", *said, "--checkpoint", str(path)]
        code = [file.read_bytes() for file in sorted(package().rglob("*.py"))]
        model = digest(*(file.read_bytes() for file in files), *code)
        self.identity = self.model = f"{self.name} {model}"

    def prepare(self, waveforms: Sequence[Waveform]) -> None:
        if self.by_speaker:
            self.identity = f"{self.model} {digest(*(one.tobytes() for one in waveforms))}"
            recordings = (iter([waveform]) for waveform in waveforms)
            self.moments = self.transcriber.one_speaker(recordings)

    def decode(self, waveform: Waveform) -> Output:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "sound.wav"
            soundfile.write(path, waveform, RATE, subtype="FLOAT")
            try:
                transcript = self.transcriber.transcribe_file(path, lambda _: None, self.moments)
            except DataError:
                if waveform.any():
                    raise
                return Output((), "" if self.words else None)  # it says that the file is silent
        phones = tuple(segment.phone for segment in transcript.phones)
        said = " ".join(one.word for one in getattr(transcript, "words", None) or ())
        return Output(phones, said if self.words else None)


def ours(
    models: Sequence[Path], one_speaker: bool, words: Path | None
) -> tuple[list[System], list[str]]:
    """Our models, also by speaker and with words, and a sentence about each without words."""
    made: list[Any] = [Ours(path) for path in models]
    if one_speaker:
        made += [Ours(one.path, by_speaker=True) for one in made if not one.by_speaker]
    absent = []
    for path in models:
        try:
            made.append(Ours(path, words=words or True))
        except TypeError:  # of `load` in a version that finds no words
            absent.append(f"{path.stem} is without words, which this version does not find")
        except DataError as error:
            absent.append(f"{path.stem} is without words: {error}")
    return made, absent


# Extras of pyproject.toml, one for each peer, and what cannot be installed everywhere.
EXTRAS = ("pocketsphinx", "hama", "moonshine")


def peers(wanted: Sequence[str], dictionary: Path | None) -> tuple[list[System], list[str]]:
    """The peers that are installed, and a sentence about each that is not."""
    systems: list[System] = []
    absent = []
    for extra in wanted:
        try:
            if extra == "pocketsphinx":
                systems.append(Pocketsphinx("allphone", ALLPHONE, "as documented"))
                systems.append(Pocketsphinx("words", WORDS, "as documented"))
            elif extra == "hama":
                systems.append(Hama())
            elif path := dictionary or _pocketsphinx_dictionary():
                systems.append(Moonshine(path))
            else:
                absent.append("moonshine is left out, its words need --lexicon FILE (CMUdict)")
        except (ImportError, OSError, RuntimeError) as error:
            absent.append(
                f"{extra} is left out, as it is not installed ({error}); run: {pip_install(extra)}"
            )
    return systems, absent


def _pocketsphinx_dictionary() -> Path | None:
    try:
        from pocketsphinx import get_model_path
    except ImportError:
        return None
    return Path(get_model_path()) / "en-us" / "cmudict-en-us.dict"


def megabytes(paths: Iterable[Path]) -> float:
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def package() -> Path:
    return Path(asr.__file__).parent


def digest(*parts: bytes) -> str:
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(blake2b(part).digest())
    return hasher.hexdigest()
