"""`asr align` and its peers on the same files with the same words: make peers ALIGN=1 ROOT=…

    python recipes/peers/aligners.py experiment=timit-sample corpus.root=ROOT --split all \\
        --train LibriSpeech/train-clean-5 --lexicon cmudict.dict --output exp/peers/align

Every system is its own command line, given a folder of recordings with texts beside them and a
dictionary of the words in these texts, and writes TextGrids. The text is the words with all their
pronunciations, or the hand-made phones: each word then has a name of its own and one pronunciation,
or each phone is a word. `table.md` of the output folder has the errors of boundaries against the
hand-made ones, by the rules of `asr.scoring.boundaries`. viter is trained once, and its model kept
in the output folder.
"""

import argparse
import itertools
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")  # of viter
sys.path.append(str(Path(__file__).parents[1] / "librispeech"))

import numpy as np
import soundfile
from conditions import quiet, recorded
from peers import Change, read, report, table

from asr import audio, corpora, labels, scoring
from asr.audio import Waveform
from asr.commands.configured import compose
from asr.corpora.spoken import Pronouncer
from asr.errors import DISTRIBUTION, DataError, exit_code, pip_install, raise_problems
from asr.files.outputs import atomic_open
from asr.phones import SILENCES, table_rows
from asr.records import Segment, Utterance
from asr.scoring.boundaries import Boundary, TimedPair, Timing, boundaries, in_arpabet
from asr.scoring.counts import ErrorCounts
from asr.scoring.significance import paired_bootstrap

RATE = 16_000  # Hz
TRAINED_ON_H = 1.7  # of the subsets, at equal steps
LEAST = 0.02  # share of the boundaries of a class that has a row
WITHIN_S = 0.020 + 1e-9
REPLICATES = 1000  # of the bootstrap by speaker
TIMES = 3  # new processes, of which the median counts
CLASSES = {row[0]: row[1] for row in table_rows("articulation.txt")}
CLASSES |= {phone: "stop" for phone, kind in CLASSES.items() if kind in ("affricate", "flap")}
TEXT, WITHIN, ALONE = "text", "phones of words", "phones"

Dictionary = dict[str, tuple[tuple[str, ...], ...]]


class Said(NamedTuple):
    """What a system is given for one input: by id a text, and the pronunciations of its words."""

    texts: dict[str, str]
    dictionary: Dictionary


class Cost(NamedTuple):
    """Of a process."""

    cpu_s: float
    wall_s: float


class System:
    """A command line that aligns a folder of recordings and texts, or one recording."""

    name: str
    distribution: str  # that pip installs

    def command(self, source: Path, dictionary: Path, output: Path) -> list[str]:
        raise NotImplementedError

    def one(self, recording: Path, text: str, dictionary: Path, output: Path) -> list[str]:
        raise NotImplementedError


class Ours(System):
    """`asr align` of this project."""

    distribution = DISTRIBUTION

    def __init__(self, checkpoint: Path | None) -> None:
        self.name = f"asr, {checkpoint.stem if checkpoint else 'packaged'}"
        self.model = ["--checkpoint", str(checkpoint)] if checkpoint else []

    def command(self, source: Path, dictionary: Path, output: Path) -> list[str]:
        given = [str(source), "--lexicon", str(dictionary), "--output", str(output)]
        return [sys.executable, "-m", "asr", "align", *given, *self.model]

    def one(self, recording: Path, text: str, dictionary: Path, output: Path) -> list[str]:
        given = [str(recording), text, "--output", str(output / "one.TextGrid")]
        return [sys.executable, "-m", "asr", "align", *given, *self.model]


class Viter(System):
    """viter 0.5.1 (MIT): Kaldi's GMMs and MFA's recipe, here its monophones."""

    distribution = "viter"

    def __init__(self, model: Path) -> None:
        import viter

        self.name = f"viter {viter.__version__}, {model.stem}"
        self.model = str(model)

    def command(self, source: Path, dictionary: Path, output: Path) -> list[str]:
        given = ["align", str(source), self.model, "--dict", str(dictionary), "--out", str(output)]
        return [*program(), *given, "--cpu"]

    def one(self, recording: Path, text: str, dictionary: Path, output: Path) -> list[str]:
        return [*self.command(recording, dictionary, output), "--text", text]


def program() -> list[str]:
    return [sys.executable, "-c", "import sys, viter; sys.exit(viter.main(sys.argv))"]


def run(command: Sequence[str]) -> Cost:
    """The cost of a command; `DataError` with the end of its output where it fails."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wall_s, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        what = f"{done.stdout}\n{done.stderr}".strip()[-1000:]
        raise DataError(f"{shlex.join(command)}: exit code {done.returncode}: {what}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s, wall_s)


# ---------------------------------------------------------------- corpora for command lines


def write_corpus(
    folder: Path, utterances: Iterable[tuple[str, str, str]], waveforms: Iterable[Waveform]
) -> None:
    """SPEAKER/ID.wav with ID.txt of each (id, speaker, text)."""
    for (id, speaker, text), waveform in zip(utterances, waveforms, strict=True):
        place = folder / speaker / id
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(f"{place}.wav", waveform, RATE, subtype="PCM_16")
        place.with_name(f"{id}.txt").write_text(text, encoding="utf-8")


def write_dictionary(path: Path, dictionary: Dictionary) -> Path:
    with atomic_open(path) as file:
        for word in sorted(dictionary):
            file.writelines(f"{word}\t{' '.join(one)}\n" for one in dictionary[word])
    return path


def pronounced(texts: Mapping[str, str], lexicon: Path | None) -> Said:
    """The words of texts, with all their pronunciations in the lexicon, or else by espeak-ng."""
    pronouncer = Pronouncer(lexicon)
    said = {id: pronouncer.said(text) for id, text in texts.items()}
    dictionary = {one.word: one.pronunciations for words in said.values() for one in words}
    return Said({id: " ".join(one.word for one in said[id]) for id in said}, dictionary)


def letters(number: int) -> str:
    """A word that is no word, of letters only."""
    tail = chr(ord("a") + number % 26)
    return (letters(number // 26) if number >= 26 else "xq") + tail


def by_phones(utterances: Sequence[Utterance], words: Mapping[str, list[Segment]]) -> Said:
    """The hand-made phones: a word for those of each word, or with no words for each phone.

    A phone belongs to the word in which its middle lies, and is a word where there is none.
    """
    names: dict[tuple[str, ...], str] = {}
    texts = {}
    for one in utterances:
        groups: list[tuple[object, list[str]]] = []
        for n, (phone, start_s, end_s, _) in enumerate(in_arpabet(one.segments or ())):
            if phone in SILENCES:
                continue
            middle_s = (start_s + end_s) / 2
            spoken = words.get(one.id, ())
            inside = next((w for w in spoken if w.start_s <= middle_s < w.end_s), n)
            if groups and groups[-1][0] == inside:
                groups[-1][1].append(phone)
            else:
                groups.append((inside, [phone]))
        said = [tuple(phones) for _, phones in groups]
        texts[one.id] = " ".join(names.setdefault(p, letters(len(names))) for p in said)
    return Said(texts, {name: (phones,) for phones, name in names.items()})


def read_words(utterance: Utterance) -> list[Segment]:
    """The words with their times, of the `.wrd` file beside the audio; none without it."""
    path = Path(utterance.audio).with_suffix(".wrd")
    rows = path.read_text().splitlines() if path.exists() else ()
    fields = (row.split() for row in rows)
    return [Segment(word, int(start) / RATE, int(end) / RATE) for start, end, word in fields]


def trained(subsets: Sequence[Path], lexicon: Path | None, folder: Path) -> Path:
    """viter's monophones, trained on some hours of LibriSpeech's subsets without their times."""
    name = "+".join(path.name for path in subsets)
    model = folder / f"monophones of {name}.viter"
    import viter  # noqa: F401, an ImportError before the work

    if model.exists():
        return model
    texts, places = {}, {}
    for path in sorted(file for subset in subsets for file in subset.rglob("*.trans.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            id, _, text = line.partition(" ")
            places[id] = next(p for p in path.parent.glob(f"{id}.*") if p.suffix != ".txt")
            texts[id] = text
    if not texts:
        raise DataError(f"{', '.join(map(str, subsets))}: no *.trans.txt, expected LibriSpeech")
    hours = sum(audio.info(path).duration_s for path in places.values()) / 3600
    chosen = sorted(texts)[:: max(1, round(hours / TRAINED_ON_H))]
    said = pronounced({id: texts[id] for id in chosen}, lexicon)
    corpus = folder / "training"
    speakers = ((id, places[id].parent.parent.name, said.texts[id]) for id in chosen)
    write_corpus(corpus, speakers, (audio.load(places[id]) for id in chosen))
    dictionary = write_dictionary(folder / "training.dict", said.dictionary)
    print(f"viter is trained on {len(chosen)} utterances …", file=sys.stderr)
    given = ["train", str(corpus), "--dict", str(dictionary), "--no-tri", "--cpu", "--out"]
    cost = run([*program(), *given, str(part := model.with_suffix(".part"))])
    part.rename(model)
    shutil.rmtree(corpus)
    print(f"… in {cost.cpu_s:.0f} CPU s", file=sys.stderr)
    return model


# ---------------------------------------------------------------- alignments


class Result:
    """What a system gave for an input, against hand-made phones and words."""

    def __init__(self, system: str, pairs: Sequence[TimedPair], words: Sequence[TimedPair]) -> None:
        self.system = system
        self.timing = scoring.compare_times(pairs)
        self.words = scoring.compare_times(words) if words else None
        self.speakers = {pair.id: pair.speaker for pair in pairs}
        self.errors: dict[tuple[str, float], Boundary] = {}
        for pair in pairs:
            for one in boundaries(pair)[0]:
                key = pair.id, one.time_s
                # One boundary has two errors where the system has a pause that is not there.
                if key not in self.errors or abs(one.error_s) > abs(self.errors[key].error_s):
                    self.errors[key] = one

    def figures(self) -> list[str]:
        return [*figures(self.timing), *word_figures(self.words)]


TESTED = ("difference of", "boundaries of both", "ours − peer's", "95 % by speaker", "p")
HEAD_CELLS = ("n", "≤ 20 ms, %", "mean, ms", "signed")
HEAD = ("≤ 10 ms, %", "≤ 20 ms, %", "≤ 30 ms, %", "≤ 50 ms, %", "mean, ms", "median", "signed")
HEAD_ALL = (*HEAD, "boundaries", "comparable, %", "words ≤ 20 ms, %", "≤ 50 ms, %")


def figures(timing: Timing) -> list[str]:
    shares = (timing.percent(f"boundaries within {ms} ms") for ms in (10, 20, 30, 50))
    return [
        *(f"{share:.1f}" for share in shares),
        *millis(timing.errors_s),
        f"{len(timing.errors_s)}",
        f"{timing.comparable:.1f}",
    ]


def word_figures(timing: Timing | None) -> list[str]:
    if timing is None:
        return ["–", "–"]
    return [f"{timing.percent(f'boundaries within {ms} ms'):.1f}" for ms in (20, 50)]


def millis(errors_s: np.ndarray) -> list[str]:
    """Mean and median absolute error, mean error."""
    off = 1000 * np.abs(errors_s)
    return [f"{off.mean():.1f}", f"{np.median(off):.1f}", f"{1000 * errors_s.mean():+.1f}"]


def tier(folder: Path, utterance: Utterance, name: str, shift_s: float) -> list[Segment]:
    """A tier of a TextGrid without silence, in lower case; nothing where there is none."""
    path = folder / utterance.speaker / f"{utterance.id}.TextGrid"
    if not path.exists():
        return []
    return [
        Segment(one.phone.lower(), one.start_s - shift_s, one.end_s - shift_s)
        for one in labels.read(path, tier=name)
        if one.phone and one.phone not in SILENCES
    ]


def compared(
    systems: Sequence[System],
    utterances: Sequence[Utterance],
    said: Said,
    words: Mapping[str, list[Segment]],
    folder: Path,
    change: Change = recorded,
    before_s: float = 0.0,
) -> tuple[list[Result], list[float]]:
    """Results of the systems, and their CPU seconds for a second of audio with start-up.

    `change` puts `before_s` seconds before the speech. With `words` those are compared too.
    """
    corpus = folder / "corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    sounds = [change(audio.load(one.audio, RATE), one, RATE) for one in utterances]
    write_corpus(corpus, ((u.id, u.speaker, said.texts[u.id]) for u in utterances), sounds)
    dictionary = write_dictionary(folder / "dictionary.txt", said.dictionary)
    seconds = sum(map(len, sounds)) / RATE
    results, costs = [], []
    for system in systems:
        output = folder / system.distribution
        shutil.rmtree(output, ignore_errors=True)
        costs.append(run(system.command(corpus, dictionary, output)).cpu_s / seconds)
        pairs, of_words = [], []
        for one in utterances:
            times = tier(output, one, "phones", before_s), tier(output, one, "words", before_s)
            reference = in_arpabet(one.segments or ())
            pairs.append(TimedPair(one.id, one.speaker, reference, times[0]))
            of_words.append(TimedPair(one.id, one.speaker, words.get(one.id, []), times[1]))
        results.append(Result(system.name, pairs, of_words if words else []))
    return results, costs


def cells(errors: Iterable[Boundary]) -> list[str]:
    """Boundaries, the share within 20 ms, mean absolute and mean error."""
    errors_s = np.array([one.error_s for one in errors])
    if not len(errors_s):
        return ["0", "–", "–", "–"]
    mean, _, signed = millis(errors_s)
    within = 100 * np.mean(np.abs(errors_s) <= WITHIN_S)
    return [f"{len(errors_s)}", f"{within:.1f}", mean, signed]


def of_classes(results: Sequence[Result]) -> Iterator[list[str]]:
    """A row for each pair of classes with many boundaries, and for all others."""

    def pair_of(one: Boundary) -> str:
        return " → ".join(CLASSES[phone] if phone else "silence" for phone in one[:2])

    counts = Counter(pair_of(one) for result in results for one in result.errors.values())
    most = [pair for pair, count in counts.most_common() if count >= LEAST * counts.total()]
    for pair in most:
        own = ((e for e in one.errors.values() if pair_of(e) == pair) for one in results)
        yield [pair, *(cell for errors in own for cell in cells(errors))]
    if len(most) < len(counts):
        own = ((e for e in one.errors.values() if pair_of(e) not in most) for one in results)
        yield ["other", *(cell for errors in own for cell in cells(errors))]


def of_speakers(results: Sequence[Result]) -> Iterator[list[str]]:
    for speaker in sorted({*results[0].speakers.values()}):
        row = [speaker]
        for one in results:
            row += cells(e for (id, _), e in one.errors.items() if one.speakers[id] == speaker)
        yield row


def paired(ours: Result, other: Result) -> Iterator[list[str]]:
    """Ours minus the other by speaker, over the boundaries that both have."""
    both = ours.errors.keys() & other.errors.keys()
    for what, scale in (("> 20 ms, points", 1.0), ("mean error, ms", 1e-5)):
        counts: list[dict[str, ErrorCounts]] = []
        for result in (ours, other):
            of_speaker: dict[str, ErrorCounts] = defaultdict(ErrorCounts)
            for key in both:
                off_s = abs(result.errors[key].error_s)
                wrong = int(off_s > WITHIN_S) if scale == 1 else round(1e6 * off_s)  # in µs
                of_speaker[result.speakers[key[0]]] += ErrorCounts(ref=1, sub=wrong)
            counts.append(of_speaker)
        drawn = paired_bootstrap(*counts, "speaker", REPLICATES, seed=0)
        if drawn is not None:
            low, high = (scale * end for end in drawn.interval)
            yield [
                f"{ours.system} − {other.system}",
                what,
                f"{len(both)}",
                f"{scale * drawn.difference:+.2f}",
                f"{low:+.2f} … {high:+.2f}",
                f"{drawn.p:.3f}",
            ]


def started(system: System, utterance: Utterance, said: Said, folder: Path) -> list[str]:
    """CPU and wall seconds of a new process for one recording, the median of `TIMES`."""
    dictionary = write_dictionary(folder / "dictionary.txt", said.dictionary)
    recording = folder / "one.wav"
    soundfile.write(recording, audio.load(utterance.audio, RATE), RATE, subtype="PCM_16")
    measured = []
    for _ in range(TIMES):
        shutil.rmtree(folder / "one", ignore_errors=True)
        text = said.texts[utterance.id]
        measured.append(run(system.one(recording, text, dictionary, folder / "one")))
    return [f"{value:.2f}" for value in np.median(measured, axis=0)]


# ---------------------------------------------------------------- run


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    config = compose(options.overrides).corpus
    corpus = corpora.find(config)
    raise_problems([*corpus.wrong, *corpus.bad])
    splits = [*corpus.splits] if options.split == "all" else [options.split]
    utterances, texts = read(corpus, splits)
    utterances = [one for one in utterances if one.segments and one.id in texts]
    if not utterances:
        raise DataError(f"{config.root}: no utterance has hand-made times and words, as TIMIT has")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    systems: list[System] = [Ours(options.checkpoint)]
    absent = []
    try:
        if options.viter or options.train:
            model = options.viter or trained(options.train, options.lexicon, folder)
            systems.append(Viter(model))
        else:
            absent.append("viter is left out: it has no model; set --train (make: TRAIN=)")
    except ImportError as error:
        absent.append(f"viter is left out: {error}; run: {pip_install('viter')}")
    words = {one.id: read_words(one) for one in utterances}
    inputs = {
        TEXT: pronounced({one.id: texts[one.id] for one in utterances}, options.lexicon),
        WITHIN: by_phones(utterances, words),
        ALONE: by_phones(utterances, {}),
    }
    speakers = len({one.speaker for one in utterances})
    yield f"# {corpus.name}, {options.split}: {len(utterances)} utterances of {speakers} speakers"
    yield from (line for one in absent for line in ("", f"{one}."))
    costs: list[float] = []
    for given, said in inputs.items():
        of_text = words if given == TEXT else {}
        results, took = compared(systems, utterances, said, of_text, folder)
        costs = costs or took
        yield from ("", f"## Given {given}")
        yield from table(HEAD_ALL, ([one.system, *one.figures()] for one in results))
        yield from ("", "Ours minus a peer's, by speaker:")
        yield from table(TESTED, (row for one in results[1:] for row in paired(results[0], one)))
        names = [one.system for one in results]
        head = [f"{name}: {what}" for name in names for what in HEAD_CELLS]
        yield from table(head, of_classes(results))
        yield from table(head, of_speakers(results))
    rows = []
    for seconds, room, system in itertools.product(options.around, (False, True), systems):
        added = partial(quiet, before_s=seconds, after_s=seconds, room=room)
        kind = "room noise" if room else "zeros"
        row = [f"{seconds:g} s of {kind} before and behind: {system.name}"]
        try:
            given = inputs[TEXT], words, folder, added, seconds
            ((one,), (cost,)) = compared([system], utterances, *given)
            rows.append([*row, *one.figures(), f"{cost:.4f}"])
        except DataError:  # it has aligned nothing
            rows.append(row + ["–"] * len(HEAD_ALL))
    if rows:
        yield from ("", "## Given text, with sound around the speech")
        yield from table([*HEAD_ALL, "CPU s/s"], rows)
    yield from ("", "## What it takes")
    begun = [started(one, utterances[0], inputs[TEXT], folder) for one in systems]
    rows = [
        [one.name, f"{cost:.4f}", *start]
        for one, cost, start in zip(systems, costs, begun, strict=True)
    ]
    yield from table(["CPU s/s, with start", "start, CPU s", "start, s"], rows)


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("overrides", nargs="+", help="for the corpus: experiment=… corpus.root=…")
    add("--checkpoint", type=Path, help="ours; default: the packaged one")
    add("--train", type=Path, action="append", help="subset of LibriSpeech to train viter on")
    add("--viter", type=Path, help="a trained model of viter")
    add("--lexicon", type=Path, help="in CMUdict's format; default: the packaged one")
    add("--split", default="test", help="split to align; all: every split")
    add("--around", type=float, nargs="*", default=[], help="seconds of silence and of noise")
    add("--output", default="exp/peers/align", help="output folder")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    report(lines(options), f"aligners.py {shlex.join(given)}", Path(options.output))


if __name__ == "__main__":
    sys.exit(main())
