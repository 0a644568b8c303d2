"""One page for a person learning what an LSTM is, made from one sentence and one network.

Every statement of the page is a measurement, and is left out or turned round where the numbers do
not bear it. Measures are in `asr.memory`, pictures in `figures`, equations in `cells`.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import torch

from asr import __version__, pictures, scoring
from asr.checkpoint import Checkpoint
from asr.errors import DataError
from asr.explanation import cells, figures, memory
from asr.explanation.base import (
    CELL_NAMES,
    KEEPS,
    Floats,
    Heard,
    Layer,
    Network,
    Sentence,
    batch_of,
    duration,
    frames_of,
    listen,
    percent,
    plural,
    signed,
)
from asr.explanation.memory import AtBoundaries, Reach, Recall
from asr.phones import TABLES, phone_set
from asr.recognizer import Recognizer
from asr.records import Segment
from asr.scoring.analysis import phone_classes

__all__ = ["LONGEST_S", "Network", "Sentence", "network", "page", "require_length"]

LONGEST_S = 60.0
FEWEST_STEPS = 12  # below, there is nothing to remember
SURE = 0.05  # chance must make a difference more rarely than this for the page to state it
AROUND_S = 0.12  # on each side of a boundary
REACH_S = 1.5  # the longest lag measured, where the sentence has room
MOMENTS, DIRECTIONS = 12, 8  # steps t, and random directions of y_t, that its mean is taken over
FEWEST_PHONES = 100  # for a statement on recall


@dataclass(frozen=True)
class Study:
    """What labelled sentences tell of a network: gates at boundaries by layer, recall by cell.

    `owners` are the layer and the cell behind each column of `recall` and of `states` (B, H), all
    of the forward directions; `previous` B are the classes of the phones before.
    """

    sentences: int
    boundaries: dict[str, dict[str, AtBoundaries]]
    recall: Recall | None
    owners: tuple[tuple[int, int], ...]
    states: Floats
    previous: tuple[str, ...]
    since_s: float  # from the end of the phone before, the median


@dataclass(frozen=True)
class Choice:
    """The cell that the page looks at, and whether it was chosen for what it recalls."""

    layer: Layer
    cell: int
    by_recall: bool

    def __str__(self) -> str:
        return f"cell {self.cell + 1} of {self.layer.name}"


def network(found: Checkpoint, name: str = "") -> Network:
    """A network as the page names it: as asked, or else by its kind of cell."""
    if not found.recognizer.config.encoder.layers:
        raise DataError(
            f"{name or 'the checkpoint'}: a {found.recognizer.config.criterion.name} without "
            f"recurrent layers (encoder.layers is 0), expected a network with cells to look into"
        )
    kind = found.recognizer.config.encoder.cell
    return Network(name or CELL_NAMES[kind], found.recognizer, found.about)


def require_length(sentence: Sentence, network: Network) -> None:
    """Raise `DataError` where a sentence is too short or too long to be explained."""
    steps = network.steps_of(len(sentence.waveform))
    if steps < FEWEST_STEPS:
        raise DataError(
            f"{sentence.name}: {duration(sentence.duration_s)} are {plural(steps, 'step')} of "
            f"{network.name}, expected at least {FEWEST_STEPS}; give a longer recording"
        )
    if sentence.duration_s > LONGEST_S:
        raise DataError(
            f"{sentence.name}: {sentence.duration_s:.0f} s long, expected one sentence of at most "
            f"{LONGEST_S:.0f} s; cut it"
        )


def page(
    sentence: Sentence,
    network: Network,
    others: Sequence[Network] = (),
    more: Sequence[Sentence] = (),
) -> str:
    """The page, complete in itself.

    The memory of `others` is measured beside that of `network`; on `more` sentences, labelled ones,
    gates and cells are measured in addition to `sentence`.
    """
    network, *others = (_knowing(one, (sentence, *more)) for one in (network, *others))
    (heard,) = listen(network, [sentence])
    course = figures.Course.of(heard)
    study = _study(network, [one for one in (sentence, *more) if one.segments])
    chosen = _choose(heard, study)
    sections = {
        "The sound": _sound(heard, course),
        "What the network says": _says(heard, course),
        "One step of the cell": _step(heard, chosen),
        "The gates over the sentence": _gates(heard, course, study),
        "What one cell remembers": _cell(heard, study, chosen),
        "How far back the memory reaches": _reach(heard, others),
    }
    body = [
        f'<h2 id="s{n}"><small>{n}</small>{title}</h2>\n' + "\n".join(lines)
        for n, (title, lines) in enumerate(sections.items(), start=1)
    ]
    title = escape(f"Inside {_article(_kind(network))} while it listens")
    style = (TABLES / "lesson-page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · {escape(sentence.name)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n"
        + "\n".join([*_head(heard), *body, _foot()])
        + "\n</body>\n</html>\n"
    )


def _knowing(network: Network, sentences: Sequence[Sentence]) -> Network:
    """The network with the moments of the speakers of these sentences, if it needs them."""
    return replace(network, moments=network.recognizer.moments_of([batch_of(sentences)]))


# ── HTML ─────────────────────────────────────────────────────────────────────────────────────


def _kind(network: Network) -> str:
    return CELL_NAMES[network.config.cell]


def _article(noun: str) -> str:
    return f"an {noun}" if noun.startswith("LSTM") else f"a {noun}"


def _figure(picture: str, *caption: str) -> str:
    words = " ".join(part for part in caption if part)
    return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"


def _paragraph(*sentences: str) -> str:
    return f"<p>{' '.join(part for part in sentences if part)}</p>"


def _phone(symbol: str) -> str:
    return f'<span class="phones">{escape(symbol)}</span>'


def _gate(name: str, text: str = "") -> str:
    return f'<b class="{name}">{text or f"{name} gate"}</b>'


def _head(heard: Heard) -> Iterator[str]:
    network, sentence = heard.network, heard.sentence
    config, features, about = network.config, network.recognizer.features.config, network.about
    yield (
        '<p class="lead">A network hears the sentence below step by step and writes down its '
        "phones, the smallest sounds of speech. Here it is opened: what comes in, what goes out, "
        "and what it keeps in between. Every number on this page was measured with these weights, "
        "on this recording or, where it says so, on others.</p>"
    )
    if sentence.is_synthetic:
        yield (
            '<p class="note">The speech is synthetic: the page shows truly what this network does '
            "with it, and says nothing about people’s speech.</p>"
        )
    direction = (
        "in both directions: at every step it knows the whole sentence"
        if config.bidirectional
        else f"forwards only: at every step it knows the past, and of what comes the "
        f"{duration(network.view_s)} that its input spans"
    )
    words = f": “{escape(sentence.words)}”" if sentence.words else ""
    rows = {
        "Sentence": f"{escape(sentence.name)}{words}, {duration(sentence.duration_s)}",
        "Network": f"{_kind(network)}, {plural(config.layers, 'layer')} of {config.hidden} cells, "
        f"reading {direction}; {network.recognizer.parameter_count:,} weights",
        "Step": f"{duration(network.step_s)}: {plural(config.subsampling, 'frame')} of "
        f"{features.width} numbers, one every {features.hop_ms:g} ms",
    }
    if "dev_per" in about:
        rows["Trained"] = (
            f"{plural(int(about.get('epoch', 0)), 'epoch')} on the corpus "
            f"{escape(str(about.get('corpus', '')))}, experiment "
            f"{escape(str(about.get('experiment', '')))}; phone error rate on its development set "
            f"{about['dev_per']:.1f} %"
        )
    facts = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows.items())
    yield f'<table class="facts">{facts}</table>'


def _foot() -> str:
    return (
        f'<p class="faint">Made by <code>asr explain</code>, asr {__version__}, torch '
        f"{escape(torch.__version__)}, Python {sys.version.split()[0]}.</p>"
    )


# ── 1 and 2: sound and phones ────────────────────────────────────────────────────────────────


def _sound(heard: Heard, course: figures.Course) -> Iterator[str]:
    sentence, network = heard.sentence, heard.network
    config = network.recognizer.features.config
    yield pictures.player(sentence.waveform, sentence.sample_rate)
    for warning in sentence.warnings:
        yield f'<p class="note">{escape(warning)}.</p>'
    yield _figure(
        figures.course(lambda: figures.sound(course, heard), "waveform and mel spectrogram"),
        f"Above, the pressure of the air, {sentence.sample_rate:,} numbers a second; below, its "
        f"energy in {config.bins} bands of frequency every {config.hop_ms:g} ms, brighter where "
        f"there is more than usual in that band.",
        _about_phones(heard, course),
        f"To the network each of {len(heard.frames)} such columns is {config.width} numbers, "
        f"through which it takes {heard.steps} steps.",
        f"The pictures show the first {duration(course.end_s)} of {duration(sentence.duration_s)}; "
        f"numbers are of the whole."
        if course.end_s < sentence.duration_s
        else "",
    )


def _about_phones(heard: Heard, course: figures.Course) -> str:
    segments = heard.sentence.segments
    if not segments:
        said = "; above stands what the network says, where it says it" if course.said else ""
        return f"No labels with times are known of this recording{said}."
    by_length = sorted(segments, key=lambda segment: segment.end_s - segment.start_s)
    shortest, longest = (
        f"{_phone(one.phone)} with {duration(one.end_s - one.start_s)}"
        for one in (by_length[0], by_length[-1])
    )
    return (
        f"Lines are the boundaries between {len(segments)} phones, as labelled in "
        f"{escape(heard.sentence.labels_from)}; the shortest is {shortest}, the longest {longest}."
    )


def _says(heard: Heard, course: figures.Course) -> Iterator[str]:
    vocabulary = heard.network.recognizer.vocabulary
    if heard.log_probs is None:
        yield _paragraph(
            f"This network was trained with the criterion "
            f"{escape(heard.network.recognizer.config.criterion.name)}, whose probabilities are "
            f"not drawn here."
        )
    else:
        yield _paragraph(
            f"At every step the last layer is turned into probabilities of {len(vocabulary)} "
            f"labels: {len(vocabulary) - 1} phones, and the blank, which says “nothing new”. "
            f"Training with CTC asks only that the phones come in the right order, not when."
        )
        yield _figure(
            figures.course(
                lambda: figures.posteriors(course, heard), "probabilities of phones over time"
            ),
            *_about_spikes(heard),
            _delay(heard),
        )
    yield from _aligned(heard)


def _about_spikes(heard: Heard) -> Iterator[str]:
    assert heard.log_probs is not None
    blanks = int((heard.log_probs.argmax(axis=1) == 0).sum())
    yield (
        f"The grey ground is the blank, the most probable label in {blanks} of {heard.steps} steps "
        f"({percent(blanks / heard.steps)})."
    )
    if not heard.spikes:
        yield "No phone ever becomes more probable than the blank."
        return
    width = float(np.median([spike.last - spike.first + 1 for spike in heard.spikes]))
    labels = heard.network.recognizer.vocabulary.encode([spike.phone for spike in heard.spikes])
    peaks = [
        float(np.exp(heard.log_probs[spike.peak, label]))
        for spike, label in zip(heard.spikes, labels, strict=True)
    ]
    yield (
        f"The rest are {plural(len(heard.spikes), 'spike')}, one for each phone heard; their "
        f"median is {plural(round(width), 'step')} wide and {np.median(peaks):.2f} high."
    )


def _delay(heard: Heard) -> str:
    """When phones that were heard as labelled are said, measured from their beginnings."""
    segments = heard.sentence.segments
    if not segments or not heard.spikes:
        return ""
    (alignment,) = scoring.score(
        {"": [segment.phone for segment in segments]},
        {"": [spike.phone for spike in heard.spikes]},
        protocol="none",
    ).alignments
    pairs = [
        (segments[i], float(heard.times_s[heard.spikes[j].peak]))
        for op, i, j in alignment.steps()
        if op == "C" and i is not None and j is not None
    ]
    if not pairs:
        return ""
    late = float(np.median([moment - segment.start_s for segment, moment in pairs]))
    inside = sum(segment.start_s <= moment < segment.end_s for segment, moment in pairs)
    return (
        f"Of {plural(len(pairs), 'phone')} heard as labelled, {inside} are said while they last; "
        f"the median spike comes {duration(abs(late))} {'after' if late >= 0 else 'before'} its "
        f"phone begins."
    )


def _aligned(heard: Heard) -> Iterator[str]:
    """What was said and what was heard, under the protocol that fits the network's labels."""
    said = heard.sentence.phones
    if not said:
        yield _paragraph("Heard:", _phone(" ".join(heard.phones)) if heard.phones else "nothing.")
        return
    protocol = _protocol(heard.network)
    score = scoring.score({"": said}, {"": heard.phones}, protocol=protocol)
    total = score.total
    (alignment,) = score.alignments
    steps = []
    for op, i, j in alignment.steps():
        above = "·" if i is None else escape(alignment.reference.phones[i])
        below = "·" if j is None else escape(alignment.hypothesis.phones[j])
        error = ' class="e"' if op != "C" else ""
        steps.append(f'<span{error}><b class="said">{above}</b>{below}</span>')
    yield _paragraph(
        f"Phone error rate of this sentence: <b>{total.per:.1f} %</b>, {total.sub} substituted, "
        f"{total.dele} deleted and {total.ins} inserted in {plural(total.ref, 'phone')} "
        f"({escape(score.says)}). Above what was said, below what was heard:"
    )
    yield f'<div class="aligned phones">{"".join(steps)}</div>'


def _protocol(network: Network) -> str:
    phones = set(network.recognizer.vocabulary.phones)
    if phones <= set(phone_set("timit61")):
        return "strict"
    return "arpabet" if phones <= set(phone_set("arpabet39")) else "none"


# ── 3: one step ──────────────────────────────────────────────────────────────────────────────


def _choose(heard: Heard, study: Study | None) -> Choice:
    if study is not None and study.recall is not None:
        best = study.recall.best
        if study.recall.score[best] > study.recall.chance:
            depth, cell = study.owners[best]
            layer = next(one for one in heard.layers if one.depth == depth and not one.backward)
            return Choice(layer, cell, True)
    return Choice(heard.top, int(heard.top.ranking[0]), False)


def _step(heard: Heard, chosen: Choice) -> Iterator[str]:
    kind, layer = heard.network.config.cell, chosen.layer
    yield _paragraph(
        f"In every step each of the {heard.network.config.hidden} cells of a layer does the same. "
        f"The equations of {_article(_kind(heard.network))}:"
    )
    lines = "".join(f"<dt>{html}</dt><dd>{gloss}</dd>" for html, gloss in cells.equations(kind))
    yield f'<dl class="equations">{lines}</dl>'
    symbols = "; ".join(f"{cells.formula(s)} {means}" for s, means in cells.SYMBOLS.items())
    yield f'<p class="faint">{symbols}.</p>'
    step = cells.telling_step(layer, chosen.cell)
    found = cells.example(heard, layer, chosen.cell, step)
    if found is None:
        yield _paragraph(
            "A worked step is left out: the sums of this kind of cell are normalised over the "
            "whole layer, so that one cell alone cannot be worked out."
        )
        return
    why = "its gates are least decided" if layer.shown_gates else "its output changes most"
    special = ", of which section 5 tells what it remembers" if chosen.by_recall else ""
    yield _paragraph(
        f"Now with numbers: {chosen}{special}. Of the middle half of the sentence this is step "
        f"{step + 1}, {heard.times_s[step]:.2f} s from the start{_within(heard, step)}, where "
        f"{why}. <i>Below</i> is the weighted sum of {layer.inputs.shape[1]} numbers from below, "
        f"bias included, <i>before</i> that of the layer’s own {layer.hidden.shape[1]} outputs one "
        f"step ago."
    )
    rows = "".join(
        f"<tr><td>{general}</td><td>{numbers}</td></tr>"
        for general, numbers in cells.substituted(found)
    )
    yield f'<table class="worked">{rows}</table>'
    if kind in ("lstm", "peephole"):
        kept, written = found["f"] * found.before, found["i"] * found["g"]
        yield _figure(
            cells.drawing(found),
            f"The same step as a drawing. The cell state runs along the top: of "
            f"{signed(found.before, 2)} the {_gate('forget')} keeps {percent(found['f'])}, "
            f"leaving {signed(kept, 2)}; the {_gate('input')} lets in {percent(found['i'])} of the "
            f"{_gate('candidate', 'candidate')} {signed(found['g'], 2)}, which adds "
            f"{signed(written, 2)}.",
            f"Of tanh of the new state the {_gate('output')} shows {percent(found['o'])}.",
            "Between one state and the next there is only a product and a sum, with no weights and "
            "no squeezing: where the forget gate is near 1, the state just stays.",
            "Not drawn are the peepholes, through which the gates see the state as well."
            if kind == "peephole"
            else "",
        )


def _within(heard: Heard, step: int) -> str:
    for segment in heard.sentence.segments or ():
        if step in heard.span(segment):
            return f", within {_phone(segment.phone)}"
    return ""


# ── what labelled sentences tell ─────────────────────────────────────────────────────────────


def _window(network: Network) -> int:
    return max(2, round(AROUND_S / network.step_s))


def _study(network: Network, sentences: Sequence[Sentence]) -> Study | None:
    """None: no sentence is labelled."""
    series: dict[str, dict[str, list[Floats]]] = {}
    boundaries: list[list[int]] = []
    before: list[Floats] = []
    after: list[Floats] = []
    kept: list[Floats] = []
    since: list[float] = []
    previous: list[str] = []
    current: list[str] = []
    owners: tuple[tuple[int, int], ...] = ()
    for heard in listen(network, sentences):
        boundaries.append(heard.boundaries())
        for layer in heard.layers:
            for name, gate in layer.shown_gates.items():
                series.setdefault(layer.name, {}).setdefault(name, []).append(gate.mean(axis=1))
        forward = [layer for layer in heard.layers if not layer.backward]
        states = np.concatenate([layer.state for layer in forward], axis=1)
        keep = [layer.keep for layer in forward if layer.keep is not None]
        owners = tuple((one.depth, cell) for one in forward for cell in range(one.state.shape[1]))
        for first, last, second, step in heard.transitions():
            before.append(states[last])
            after.append(states[step])
            if keep:
                passed = np.concatenate([gate[last + 1 : step + 1] for gate in keep], axis=1)
                kept.append(passed.prod(axis=0))
            since.append(float(heard.times_s[step]) - first.end_s)
            previous.append(_class(first))
            current.append(_class(second))
    if not boundaries:
        return None
    at_boundaries = {
        layer: {
            name: found
            for name, courses in gates.items()
            if (found := memory.at_boundaries(courses, boundaries, _window(network)))
        }
        for layer, gates in series.items()
    }
    recall = None
    if len(previous) >= FEWEST_PHONES and len(set(previous)) > 1:
        alike = np.maximum(memory.rank_correlation(np.stack(before), np.stack(after)), 0)
        held = np.stack(kept).mean(axis=0) if kept else alike
        recall = memory.recall(np.stack(after), held, previous, current)
    return Study(
        len(boundaries),
        {layer: found for layer, found in at_boundaries.items() if found},
        recall,
        owners,
        np.stack(after) if after else np.zeros((0, len(owners)), np.float32),
        tuple(previous),
        float(np.median(since)) if since else 0.0,
    )


def _class(segment: Segment) -> str:
    """Its manner of articulation; of a phone that the tables do not know, itself."""
    return phone_classes().get(segment.phone, (segment.phone, ""))[0]


# ── 4: gates ─────────────────────────────────────────────────────────────────────────────────


def _gates(heard: Heard, course: figures.Course, study: Study | None) -> Iterator[str]:
    names = [_gate(name, name) for name in heard.top.shown_gates]
    if names:
        listed = " and ".join([", ".join(names[:-1])] * bool(names[:-1]) + names[-1:])
        yield _paragraph(
            f"Every cell sets its gates anew in each of the {heard.steps} steps: {listed}. White "
            f"is closed (0), full colour is open (1)."
        )
    else:
        yield _paragraph(
            f"{_article(_kind(heard.network)).capitalize()} has no gates: its output is all it has "
            f"to remember by, and it is made anew in every step. Orange is below zero, violet "
            f"above."
        )
    for layer in heard.layers:
        yield f"<h3>{layer.name.capitalize()}</h3>"
        means = ", ".join(
            f"{_gate(name, name)} {gate.mean():.2f}" for name, gate in layer.shown_gates.items()
        )
        yield _figure(
            figures.course(
                lambda layer=layer: figures.gates(course, heard, layer),  # type: ignore[misc]
                f"gates and state of {layer.name} over time",
            ),
            _about_rows(heard, layer),
            f"Mean over cells and steps, as on top: {means}." if means else "",
            "This direction reads from the end of the sentence: its past lies to the right."
            if layer.backward
            else "",
        )
    if names:
        yield from _boundaries(heard, study)


def _about_rows(heard: Heard, layer: Layer) -> str:
    merged = -(-layer.state.shape[1] // figures.ROWS)
    row = "Each row is a cell" if merged == 1 else f"Each row is the mean of up to {merged} cells"
    if layer.half_lives is None:
        return f"{row}, the strongest on top."
    lives = np.sort(layer.half_lives) * heard.network.step_s
    return (
        f"{row}, the most persistent on top; on the left its half-life, after which half of what "
        f"it held is gone, as its {_gate(_keep(layer))} is set on average. It goes from "
        f"{duration(lives[0])} to {duration(lives[-1])}, with a median of "
        f"{duration(float(np.median(lives)))}."
    )


def _keep(layer: Layer) -> str:
    return next(name for name in KEEPS if name in layer.gates)


def _boundaries(heard: Heard, study: Study | None) -> Iterator[str]:
    yield "<h3>At the boundaries of phones</h3>"
    if study is None or not study.boundaries:
        reason = (
            "no labels with times are known, neither of this recording nor of others"
            if study is None
            else "there are too few, or they are too near to each other"
        )
        yield _paragraph(f"What the gates do at the boundaries of phones is left out: {reason}.")
        return
    gate = _keep(heard.top) if heard.top.keep is not None else next(iter(heard.top.shown_gates))
    here = {
        layer.name: memory.at_boundaries(
            [layer.gates[gate].mean(axis=1)], [heard.boundaries()], _window(heard.network)
        )
        for layer in heard.layers
        if heard.sentence.segments
    }
    measured = {layer: found for layer, found in here.items() if found is not None}
    if measured:
        count = next(iter(measured.values())).boundaries
        yield _paragraph(
            f"This sentence has {count} boundaries.",
            *(_difference(layer, gate, found) for layer, found in measured.items()),
        )
    everywhere = {layer: gates[gate] for layer, gates in study.boundaries.items()}
    count = next(iter(everywhere.values())).boundaries
    yield _figure(
        figures.sized(
            lambda width: figures.around_boundaries(
                width, list(study.boundaries.items()), heard.network.step_s
            ),
            "gates by the distance from a boundary",
        ),
        f"How much more each gate is open at a distance from a boundary than where boundaries are "
        f"moved by chance, in the mean of {count:,} boundaries in "
        f"{plural(study.sentences, 'sentence')}. In the bands lie 95 % of the curves that chance "
        f"makes.",
        *(_difference(layer, gate, found) for layer, found in everywhere.items()),
    )


def _difference(layer: str, gate: str, found: AtBoundaries) -> str:
    """What a gate does at boundaries, as far as chance allows to say."""
    values = f"{found.near:.3f} within one step of a boundary, {found.inside:.3f} elsewhere"
    if found.p >= SURE:
        return (
            f"In {layer} the {_gate(gate)} does nothing there that chance would not do as well: "
            f"{values} (p = {found.p:.2f})."
        )
    less = "less" if found.near < found.inside else "more"
    return f"In {layer} the {_gate(gate)} is {less} open there: {values} (p = {found.p:.3f})."


# ── 5: one cell ──────────────────────────────────────────────────────────────────────────────


def _cell(heard: Heard, study: Study | None, chosen: Choice) -> Iterator[str]:
    if study is None or study.recall is None:
        count = 0 if study is None else len(study.previous)
        yield _paragraph(
            f"Left out: what a cell remembers is measured on {FEWEST_PHONES} labelled phones or "
            f"more, of several classes, and there are {count}. A manifest of labelled sentences "
            f"can be given with <code>--manifest</code>."
        )
        return
    recall = study.recall
    keeps = (
        f"the part of its state that its {_gate(_keep(heard.top))} has let stay since then"
        if heard.top.keep is not None
        else "the rank correlation with its state at the end of that phone"
    )
    yield _paragraph(
        f"Does a cell still know of a phone that is over? All states were read off in "
        f"{recall.phones:,} phones of {plural(study.sentences, 'sentence')}, each time as soon as "
        f"nothing of the phone before was left in the input, a median of {duration(study.since_s)} "
        f"after its end. Two numbers tell of each of {len(recall.score)} cells what it "
        f"<b>knows</b> and what it <b>keeps</b>. Knows: how much of the variance of its state the "
        f"class of the phone <i>before</i> explains (ω² of ranks, among phones of one class). "
        f"Keeps: {keeps}. The product is high for a cell that has learned something and holds on "
        f"to it."
    )
    shuffled = (
        f"when the phones before are shuffled, the best of all stays below {recall.chance:.3f} in "
        f"95 % of the shuffles"
    )
    if not chosen.by_recall:
        yield _paragraph(
            f"The best cell reaches {signed(recall.score.max())}; {shuffled}. So no single cell of "
            f"this network was found to remember the phone before."
        )
        return
    best, layer = recall.best, chosen.layer
    yield _paragraph(
        f"The highest is that of <b>{chosen}</b>: {recall.explained[best]:.2f} × "
        f"{recall.kept[best]:.2f} = <b>{recall.score[best]:.3f}</b>. The median of all cells is "
        f"{signed(float(np.median(recall.score)))}; {shuffled}."
    )
    yield _by_class(study, best, layer)
    transition = _clearest(heard, layer, chosen.cell)
    if transition is not None:
        first, _, second, step = transition
        yield _figure(
            figures.sized(
                lambda width: figures.one_cell(
                    width, heard, layer, chosen.cell, (first, second), float(heard.times_s[step])
                ),
                "state and gates of the cell through two phones",
            ),
            *_through(heard, chosen, *transition),
        )


def _by_class(study: Study, column: int, layer: Layer) -> str:
    states, classes = study.states[:, column], np.asarray(study.previous)
    means = {name: float(states[classes == name].mean()) for name in set(study.previous)}
    order = sorted(means, key=lambda name: (means[name], name))
    usual = [name for name in order if (classes == name).sum() >= 10] or order
    low, high = usual[0], usual[-1]
    squeezed = float((np.abs(np.tanh(states)) > 0.99).mean())
    label = "output" if layer.cell is None else "cell state"
    return _figure(
        figures.sized(
            lambda width: figures.by_class(width, states, study.previous, order, label),
            "state of the cell by the class of the phone before",
        ),
        f"The {label} at those moments, by the class of the phone before and how often that came; "
        f"a dot is a phone, a bar the mean of its class.",
        f"After {_class_name(low)} it stands at {signed(means[low], 2)} on average, after "
        f"{_class_name(high)} at {signed(means[high], 2)}, although by then the input holds "
        f"nothing of them.",
        f"In {percent(squeezed)} of the moments tanh takes it to within 0.01 of ±1: then the "
        f"differences are kept, but an output cannot show them."
        if layer.cell is not None and squeezed > 0.5
        else "",
    )


def _class_name(name: str) -> str:
    if name == "silence" or name not in {manner for manner, _ in phone_classes().values()}:
        return name
    return f"{name}s"


def _clearest(heard: Heard, layer: Layer, cell: int) -> tuple[Segment, int, Segment, int] | None:
    """The transition of this sentence across which the state stays farthest from its mean."""
    distance = layer.state[:, cell] - layer.state[:, cell].mean()
    found = [
        (float(distance[last] * distance[step]), (first, last, second, step))
        for first, last, second, step in heard.transitions()
        if second.end_s - first.start_s < 0.5
    ]
    held, transition = max(found, key=lambda one: one[0], default=(0.0, None))
    return transition if held > 0 else None


def _through(
    heard: Heard, chosen: Choice, first: Segment, last: int, second: Segment, step: int
) -> Iterator[str]:
    layer, cell = chosen.layer, chosen.cell
    state = layer.state[:, cell]
    yield (
        f"The cell through {_phone(first.phone)} and {_phone(second.phone)}, where in this "
        f"sentence its state stays farthest from its mean: {signed(float(state[last]), 2)} at the "
        f"end of {_phone(first.phone)}, {signed(float(state[step]), 2)} at the dashed line "
        f"{plural(step - last, 'step')} later, when nothing of {_phone(first.phone)} is in the "
        f"input any more."
    )
    if layer.keep is not None and layer.half_lives is not None:
        kept = float(layer.keep[last + 1 : step + 1, cell].prod())
        life = float(layer.half_lives[cell])
        yield (
            f"Over these steps the {_gate(_keep(layer))} keeps {percent(kept)}; over the whole "
            f"sentence the half-life of the cell is {duration(life * heard.network.step_s)}, "
            f"{life:.1f} steps."
        )


# ── 6: reach ─────────────────────────────────────────────────────────────────────────────────


def _reach(heard: Heard, others: Sequence[Network]) -> Iterator[str]:
    trained = [heard.network, *others]
    control = _untrained(heard.network)
    found = [(one, _measure(one, heard.sentence)) for one in (*trained, control)]
    both = any(one.config.bidirectional for one in trained)
    is_long = heard.sentence.duration_s > figures.MOST_S
    stretch = f"the first {duration(figures.MOST_S)}" if is_long else "this sentence"
    yield _paragraph(
        "How much is an input still felt <var>k</var> steps later? Move it a little and see how "
        "far the output moves: this is the gradient |∂<var>y</var><sub>t</sub>/∂<var>x</var>"
        "<sub>t−k</sub>|, through all layers, found by automatic differentiation.",
        _fair(trained),
    )
    yield _figure(
        figures.sized(
            lambda width: figures.reaches(
                width, [(one.name, reach, one is control) for one, reach in found]
            ),
            "influence of an input by its age",
        ),
        f"Influence of an input by its age, on a logarithmic scale. Lines are medians over "
        f"{len(found[0][1].norms)} steps of {stretch}, with {DIRECTIONS} random directions of the "
        f"output each; bands hold the middle half of the steps.",
        "Left of zero are inputs that come later." if both else "",
        f"Dashed is {escape(control.name)}: the same network with the weights of before training.",
    )
    yield _reach_table(found, control, both)
    yield _paragraph(*_ranked(found, control))


def _fair(trained: Sequence[Network]) -> str:
    if len(trained) < 2:
        return "Other networks can be put beside it with <code>--compare NAME=CHECKPOINT</code>."
    corpora = sorted({str(one.about.get("corpus", "unknown")) for one in trained})
    weights = [one.recognizer.parameter_count for one in trained]
    learned = f"the corpus {corpora[0]}" if len(corpora) == 1 else f"{' and '.join(corpora)}"
    number = {2: "two", 3: "three", 4: "four"}.get(len(trained), str(len(trained)))
    return (
        f"The {number} networks learned from {escape(learned)} and have {min(weights):,} to "
        f"{max(weights):,} weights."
    )


def _measure(network: Network, sentence: Sentence) -> Reach:
    most = round(figures.MOST_S / network.step_s) * network.config.subsampling
    frames = frames_of(network, [sentence])[0][0, :most]
    steps = -(-len(frames) // network.config.subsampling)
    both = network.config.bidirectional
    longest = min(round(REACH_S / network.step_s), (steps - 1) // (3 if both else 2))
    times = np.linspace(longest, steps - 1 - (longest if both else 0), MOMENTS)
    directions = torch.randn(
        DIRECTIONS,
        network.recognizer.encoder.output_size,
        generator=torch.Generator().manual_seed(0),
    )
    return memory.reach(
        network.recognizer.encoder,
        frames,
        sorted({round(float(time)) for time in times}),
        range(-longest if both else 0, longest + 1),
        directions / directions.norm(dim=1, keepdim=True),
        network.config.subsampling,
        network.step_s,
    )


def _untrained(network: Network) -> Network:
    """The same network with new weights, but for the scale of its input."""
    recognizer = network.recognizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = Recognizer(recognizer.config, recognizer.vocabulary).eval()
    fresh.features = recognizer.features
    return Network(f"untrained {network.name}", fresh, moments=network.moments)


def _reach_table(found: Sequence[tuple[Network, Reach]], control: Network, both: bool) -> str:
    sides = {"back": False, "ahead": True} if both else {"": False}
    head = "".join(
        f'<th class="n">{share} {side}</th>' for side in sides for share in ("to 1/10", "to 1/100")
    )
    rows = []
    for one, reach in found:
        per = f"{one.about['dev_per']:.1f} %" if "dev_per" in one.about else ""
        lags = "".join(
            f'<td class="n">{_lag(reach, share, later)}</td>'
            for later in sides.values()
            for share in (0.1, 0.01)
        )
        weights = "" if one is control else f"{one.recognizer.parameter_count:,}"
        rows.append(
            f'<tr><td>{escape(one.name)}</td><td class="n">{weights}</td><td class="n">{per}</td>'
            f"{lags}</tr>"
        )
    return (
        '<div class="scroll"><table><tr><th>network</th><th class="n">weights</th>'
        f'<th class="n">dev PER</th>{head}</tr>{"".join(rows)}</table></div>'
    )


def _lag(reach: Reach, share: float, later: bool = False) -> str:
    lag = reach.falls_to(share, later)
    farthest = float(np.abs(reach.lags).max()) * reach.step_s
    return f"beyond {duration(farthest)}" if lag is None else duration(lag)


def _ranked(found: Sequence[tuple[Network, Reach]], control: Network) -> Iterator[str]:
    """Who looks back how far, the farthest first, and what training did."""
    lags = {one.name: (reach.falls_to(0.01), _lag(reach, 0.01)) for one, reach in found}
    untrained, text = lags.pop(control.name)
    order = sorted(lags, key=lambda name: -(lags[name][0] or np.inf))
    listed = "; ".join(f"{escape(name)}: <b>{lags[name][1]}</b>" for name in order)
    yield f"An input’s influence has fallen to one hundredth after: {listed}."
    name = found[0][0].name
    own, _ = lags[name]
    if own is not None and untrained is not None:
        yield (
            f"Before training it was {text} for the {escape(name)}: "
            + (
                f"training made its reach {own / untrained:.1f} times as long."
                if own > untrained
                else f"training has not made its reach longer, but {own / untrained:.2f} times as "
                f"long."
            )
        )
