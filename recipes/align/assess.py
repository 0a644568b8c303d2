"""Native speech → asr/tables/pronunciation.txt, and how well it tells sounds apart.

    python recipes/align/assess.py dev.jsonl home.jsonl --timit timit-sample/dr6-fapb0 \\
        --table asr/tables/pronunciation.txt

Manifests have words. Natives say what is written; then phones of what is written are replaced, so
that something else was said: by any phone (`random`), or by one that learners confuse it with
(`alike`); a consonant is added to words that end in a vowel (`final left out`), or a final vowel is
taken off (`vowel added`). Figures are of speakers that were not in the fit; each group of rows
stands under its number of phones.
"""

import argparse
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from scipy.stats import rankdata

from asr.assessment import CLEARLY, LEFT_OUT, VOWELS, likeliest
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open
from asr.phones import Vocabulary
from asr.records import Manifest
from asr.search.substitutions import variants
from asr.transcriber import MODEL, Transcriber, load_model

# Written, said instead: what learners of English, and listeners, confuse.
ALIKE = """s th, th s, th t, th f, v w, w v, b v, v b, r l, l r, iy ih, ih iy, ae eh, eh ae, uw uh,
uh uw, d dh, dh d, z dh, dh z, z s, s z, ng n, n ng, f p, p f, sh s, s sh, p b, b p, t d, d t, g k,
k g, ah aa, aa ah, ow ao, ao ow, jh zh, ch sh, sh ch, ey eh, eh ey"""
ADDED = ["t", "d", "n", "s", "z", "k", "l", "m", "r", "v", "p"]
EVERY = 8  # phones from one that is replaced to the next
FOLDS = 5
L2 = 1e-4
SHARES = {"random": 0.3, "alike": 0.5, "final left out": 0.2}  # of the bad phones in the fit
HOME, FALSE_ALARMS = "home", 0.025  # where the score of 50 lies
FITTED = ("clean", "noise 20 dB", "telephone")

Array = np.ndarray[Any, Any]
Row = dict[str, Any]


def noisy(snr_db: float) -> Callable[[Array], Array]:
    def add(waveform: Array) -> Array:
        noise = np.random.default_rng(len(waveform)).standard_normal(len(waveform))
        power = np.mean(waveform**2) / 10 ** (snr_db / 10)
        return np.asarray(waveform + noise * np.sqrt(power), np.float32)

    return add


def telephone(waveform: Array) -> Array:
    band = butter(4, [300, 3400], "bandpass", fs=16_000, output="sos")
    return np.asarray(sosfilt(band, waveform), np.float32)


CONDITIONS: dict[str, Callable[[Array], Array]] = {
    "clean": lambda waveform: waveform,
    "noise 20 dB": noisy(20),
    "noise 10 dB": noisy(10),
    "telephone": telephone,
}


def recordings(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, str]]:
    """Group, speaker, audio and words; in home recordings everyone is a speaker."""
    for n, path in enumerate(arguments.manifests):
        for one in Manifest(path):
            group = "read" if n == 0 else HOME
            yield group, one.speaker if n == 0 else one.id, one.audio, one.words or ""
    for folder in arguments.timit:
        for path in sorted(folder.glob("*.txt")):
            yield (
                "TIMIT",
                folder.name,
                str(path.with_suffix(".wav")),
                path.read_text().split(maxsplit=2)[2],
            )


def rows(recogniser: Transcriber, arguments: argparse.Namespace, condition: str) -> list[Row]:
    """Each phone of the natives, as it is written and after it was replaced."""
    vocabulary = recogniser.network.vocabulary
    pronouncer = Pronouncer(g2p="none")
    result: list[Row] = []
    for number, (group, speaker, audio, text) in enumerate(recordings(arguments)):
        with suppress(DataError):  # words outside CMUdict
            said = pronouncer.said(text)
            waveform = CONDITIONS[condition](recogniser.waveform(audio))
            about = {"group": group, "speaker": speaker, "condition": condition}
            of_one = judged(recogniser.log_probs([waveform]), said, vocabulary, number)
            result += [about | row for row in of_one]
    return result


def kept(recogniser: Transcriber, arguments: argparse.Namespace) -> Iterator[Row]:
    """The rows of all conditions; those of each are in a file of the folder, if there is one."""
    for condition in CONDITIONS:
        path = arguments.keep and arguments.keep / f"{condition}.pickle"
        if path and path.exists():
            yield from pickle.loads(path.read_bytes())
            continue
        samples = rows(recogniser, arguments, condition)
        if path:
            with atomic_open(path, "wb") as file:
                file.write(pickle.dumps(samples))
        yield from samples


def judged(
    log_probs: Array, said: Sequence[Said], vocabulary: Vocabulary, seed: int
) -> Iterator[Row]:
    """The phones of one recording, as they are written and after they were replaced."""
    label = {phone: n for n, phone in enumerate((LEFT_OUT, *vocabulary.phones))}
    words = [[label[p] for p in way] for way in likeliest(log_probs, said, vocabulary)]
    for kind, labels, places in texts(words, label, np.random.default_rng(seed)):
        total, replaced, inserted = variants(log_probs.astype(np.float64), np.array(labels))
        if np.isfinite(total):
            inserted[:, 0] = -np.inf
            inserted[np.arange(len(labels)), labels] = -np.inf
            inserted[np.arange(1, len(labels) + 1), labels] = -np.inf
            for u in places:
                extra = float(inserted[u + 1].max())
                one = {"kind": kind, "label": labels[u], "replaced": replaced[u].astype("f4")}
                yield one | {"extra": extra}


def texts(
    words: Sequence[Sequence[int]], label: dict[str, int], rng: np.random.Generator
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Kind, labels, and the places that count: the right text, then wrong ones."""
    alike: dict[int, list[int]] = {}
    for pair in ALIKE.split(","):
        written, said = pair.split()
        alike.setdefault(label[said], []).append(label[written])
    vowels = {label[phone] for phone in VOWELS if phone in label}
    right = [phone for word in words for phone in word]
    last = [n == len(word) - 1 for word in words for n in range(len(word))]
    yield "right", right, list(range(len(right)))
    for _ in range(2):
        changed, places = list(right), list(range(rng.integers(EVERY), len(right), EVERY))
        for u in places:
            changed[u] = int(rng.choice([v for v in range(1, len(label)) if v != right[u]]))
        yield "random", changed, places
        changed, places = list(right), []
        for u in range(rng.integers(EVERY), len(right)):
            if right[u] in alike and (not places or u - places[-1] >= EVERY):
                changed[u] = int(rng.choice(alike[right[u]]))
                places.append(u)
        yield "alike", changed, places
    changed, places = [], []
    for phone, is_last in zip(right, last, strict=True):
        changed.append(phone)
        if is_last and phone in vowels and (not places or len(changed) - places[-1] >= EVERY):
            changed.append(label[str(rng.choice(ADDED))])
            places.append(len(changed) - 1)
    yield "final left out", changed, places
    changed, places = [], []
    for u, (phone, is_last) in enumerate(zip(right, last, strict=True)):
        wanted = is_last and phone in vowels and u > 0 and not last[u - 1]
        if wanted and right[u - 1] not in vowels and (not places or len(changed) - places[-1] >= 6):
            places.append(len(changed) - 1)
        else:
            changed.append(phone)
    yield "vowel added", changed, places


class Rows:
    """Rows as arrays."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.group, self.speaker, self.condition, self.kind = (
            np.array([row[key] for row in rows])
            for key in ("group", "speaker", "condition", "kind")
        )
        self.label = np.array([row["label"] for row in rows])
        self.extra = np.array([row["extra"] for row in rows])
        self.replaced = np.stack([row["replaced"] for row in rows]).astype(np.float64).clip(-60)
        self.replaced[np.arange(len(rows)), self.label] = -np.inf

    def odds(self, prior: Array) -> Array:
        return -np.logaddexp.reduce(self.replaced + prior[self.label], axis=1)


def fit(data: Rows, chosen: Array) -> Array:
    """Log-odds of each label in place of each, (V, V), that tell right from wrong phones best."""
    chosen = chosen & np.isin(data.condition, FITTED) & np.isin(data.kind, ["right", *SHARES])
    right = data.kind[chosen] == "right"
    weight = np.zeros(chosen.sum())
    for kind, share in SHARES.items():
        of_kind = data.kind[chosen] == kind
        weight[of_kind] = share / of_kind.sum()
    groups = np.unique(data.group)
    for group in groups:
        of_group = right & (data.group[chosen] == group)
        weight[of_group] = (0.15 if group == "TIMIT" else 0.425) / max(1, of_group.sum())
    label, replaced = torch.from_numpy(data.label[chosen]), torch.from_numpy(data.replaced[chosen])
    size = replaced.shape[1]
    rows, columns = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
    pairs = torch.zeros(size, size, dtype=torch.float64)
    level = torch.tensor(-4.0, dtype=torch.float64)
    parameters = [one.requires_grad_() for one in (rows, columns, pairs, level)]
    optimiser = torch.optim.LBFGS(parameters, max_iter=60, line_search_fn="strong_wolfe")
    targets, weights = torch.from_numpy(right.astype(float)), torch.from_numpy(weight)

    def closure() -> Any:
        optimiser.zero_grad()
        prior = level + rows[:, None] + columns + pairs
        odds = -torch.logsumexp(replaced + prior[label], dim=1)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            odds, targets, reduction="none"
        )
        loss = (weights * losses).sum() / 2 + L2 * sum((one**2).sum() for one in parameters[:3])
        loss.backward()
        return loss

    optimiser.step(closure)
    return np.asarray((level + rows[:, None] + columns + pairs).detach())


def area(right: Array, wrong: Array) -> float:
    ranks = rankdata(np.concatenate([right, wrong]))[: len(right)]
    return float((ranks.sum() - len(right) * (len(right) + 1) / 2) / len(right) / len(wrong))


def report(data: Rows, odds: Array) -> None:
    """Print tables of false alarms, detection and areas; flagged are odds below 0."""
    groups = ("read", HOME, "TIMIT")
    kinds = (*SHARES, "vowel added")
    print("| condition | flagged of natives' phones: " + " | ".join(groups) + " | ", end="")
    print(
        "extra phones, all groups | "
        + " | ".join(f"{kind}: detected (AUC)" for kind in kinds)
        + " |"
    )
    print("|---" * (3 + len(groups) + len(kinds) - 1) + "|")
    for condition in CONDITIONS:
        here = data.condition == condition
        right = here & (data.kind == "right")
        cells = [f"{100 * (odds[right & (data.group == g)] < 0).mean():.1f} %" for g in groups]
        extra = CLEARLY - data.extra
        cells.append(f"{100 * (extra[right] < 0).mean():.1f} %")
        for kind in kinds:
            wrong = here & (data.kind == kind)
            by = extra if kind == "vowel added" else odds
            detected = 100 * (by[wrong] < 0).mean()
            cells.append(f"{detected:.0f} % ({area(by[right], by[wrong]):.3f})")
        print(f"| {condition} | " + " | ".join(cells) + " |")


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("manifests", nargs=2, type=Path, help="read speech, home recordings")
    add("--timit", nargs="*", type=Path, default=[], help="folders of a speaker with .txt and .wav")
    add("--keep", type=Path, help="folder for what the network says, read if it is there")
    add("--table", type=Path, help="written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recogniser = Transcriber(load_model(MODEL, language_model=False))
    data = Rows(list(kept(recogniser, arguments)))
    speakers = sorted(set(data.speaker))
    fold = np.array([speakers.index(speaker) % FOLDS for speaker in data.speaker])
    odds = np.zeros(len(fold))
    for n in range(FOLDS):
        odds[fold == n] = data.odds(fit(data, fold != n))[fold == n]
    at_home = (data.group == HOME) & (data.kind == "right") & (data.condition == "clean")
    shift = float(np.quantile(odds[at_home], FALSE_ALARMS))
    report(data, odds - shift)
    for kind in SHARES:
        clean = (data.condition == "clean") & (data.kind == kind)
        print(kind, np.quantile(odds[clean] - shift, [0.1, 0.5, 0.9]).round(1))
    print("right", np.quantile(odds[data.kind == "right"] - shift, [0.01, 0.1, 0.5, 0.9]).round(1))
    if arguments.table:
        write(arguments.table, fit(data, np.ones(len(fold), bool)) + shift, recogniser)


def write(path: Path, prior: Array, recogniser: Transcriber) -> None:
    names = (LEFT_OUT, *recogniser.network.vocabulary.phones)
    with atomic_open(path) as file:
        file.write(
            "# Log-odds in nats for each phone of a text (row) that another was said (column; -:\n"
            "# none); a likelihood ratio is added. First line: the columns.\n"
            "# Made by recipes/align/assess.py; docs/assessment.md.\n"
        )
        file.write(" ".join(names) + "\n")
        for label in range(1, len(names)):
            values = (f"{0 if v == label else prior[label, v]:.1f}" for v in range(len(names)))
            file.write(f"{names[label]} {' '.join(values)}\n")


if __name__ == "__main__":
    sys.exit(main())
