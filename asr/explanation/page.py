"""One page for a person learning what an LSTM is, made from one sentence and one network.

Here are the numbers and pictures of each section; the sentences are in `templates/explanation/`,
where those that the numbers do not support are left out or reversed.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from asr import __version__, pictures, scoring, templates
from asr.explanation import equations, figures, study, wording
from asr.explanation.activations import Activations, activations_of, batch_of
from asr.explanation.memory import Reach
from asr.explanation.network import Network, Sentence
from asr.explanation.study import Choice, Study
from asr.phones import phone_set
from asr.scoring.analysis import phone_classes

# What the page states of a gate: chance makes such a difference more rarely, and it is as large.
SURE, WORTH = 0.05, 0.01

Values = dict[str, Any]  # of one section's template


def page(
    sentence: Sentence,
    network: Network,
    others: Sequence[Network] = (),
    more: Sequence[Sentence] = (),
) -> str:
    """The HTML of the page.

    The memory of `others` is measured beside that of `network`. On `more` sentences, with labels,
    gates and cells are measured in addition to `sentence`.
    """
    batch = [batch_of((sentence, *more))]
    network, *others = (
        replace(one, moments=one.recognizer.moments_of(batch)) for one in (network, *others)
    )
    (activations,) = activations_of(network, [sentence])
    course = figures.Course.of(activations)
    known = study.measure(network, [one for one in (sentence, *more) if one.segments])
    chosen = study.choose(activations, known)
    return templates.render(
        "explanation/page.html",
        sentence=sentence,
        network=network,
        features=network.recognizer.features.config,
        activations=activations,
        course=course,
        study=known,
        chosen=chosen,
        sound=_sound(activations, course),
        phones=_phones(activations, course),
        step=_step(activations, chosen),
        gates=[
            (
                layer,
                figures.image(
                    partial(figures.gates, course, activations, layer),
                    f"gates and state of {layer.name} over time",
                ),
                -(-layer.state.shape[1] // figures.ROWS),
            )
            for layer in activations.layers
        ],
        boundaries=_boundaries(activations, known),
        cell=_cell(activations, known, chosen),
        reach=_reach(activations, others),
        software=f"asr {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}",
        lag=_lag,
        median=lambda values: float(np.median(values)),
        FEWEST_PHONES=study.FEWEST_PHONES,
        **{
            name: getattr(wording, name)
            for name in ("article", "duration", "percent", "plural", "signed")
        },
    )


# ── sound and phones ─────────────────────────────────────────────────────────────────────────


def _sound(activations: Activations, course: figures.Course) -> Values:
    sentence = activations.sentence
    return {
        "player": pictures.flac(sentence.waveform, sentence.sample_rate),
        "picture": figures.image(
            lambda: figures.sound(course, activations), "waveform and mel spectrogram"
        ),
        "by_length": sorted(
            sentence.segments or (), key=lambda segment: segment.end_s - segment.start_s
        ),
    }


def _phones(activations: Activations, course: figures.Course) -> Values:
    values: Values = _score(activations)
    if activations.log_probs is None:
        return values
    peaks = [np.exp(activations.log_probs[spike.peak, spike.label]) for spike in activations.spikes]
    widths = [spike.last - spike.first + 1 for spike in activations.spikes]
    return values | {
        "picture": figures.image(
            lambda: figures.posteriors(course, activations), "probabilities of phones over time"
        ),
        "blanks": int((activations.log_probs.argmax(axis=1) == 0).sum()),
        "spike_steps": round(float(np.median(widths))) if widths else 0,
        "spike_height": np.median(peaks) if peaks else 0.0,
        "delay": _delay(activations),
    }


def _delay(activations: Activations) -> Values | None:
    """Spikes of phones recognised as labelled, relative to the beginnings of those phones."""
    segments = activations.sentence.segments
    if not segments or not activations.spikes:
        return None
    (alignment,) = scoring.score(
        {"sentence": [segment.phone for segment in segments]},
        {"sentence": [spike.phone for spike in activations.spikes]},
        protocol="none",
    ).alignments
    pairs = [
        (segments[i], float(activations.times_s[activations.spikes[j].peak]))
        for op, i, j in alignment.steps()
        if op == "C" and i is not None and j is not None
    ]
    if not pairs:
        return None
    return {
        "phones": len(pairs),
        "late_s": float(np.median([moment - segment.start_s for segment, moment in pairs])),
        "inside": sum(segment.start_s <= moment < segment.end_s for segment, moment in pairs),
    }


def _score(activations: Activations) -> Values:
    """Labels against recognised phones, and the phones that the network has no label for."""
    if not activations.sentence.phones:
        return {"score": None}
    protocol = _protocol(activations.network)
    score = scoring.score(
        {"sentence": activations.sentence.phones}, {"sentence": activations.phones}, protocol
    )
    (alignment,) = score.alignments
    labels = activations.network.recognizer.vocabulary.phones
    known, _ = scoring.protocol(protocol).apply(labels, "hypothesis")
    return {
        "score": score,
        "aligned": list(alignment.phones()),
        "without_label": sorted({*alignment.reference.phones} - {*known}),
    }


def _protocol(network: Network) -> str:
    """That of the network's training, or else (older checkpoints) the one that fits its labels."""
    if network.about.get("protocol") in scoring.protocol_names():
        return str(network.about["protocol"])
    phones = set(network.recognizer.vocabulary.phones)
    if phones <= set(phone_set("timit61")):
        return "strict"
    return "arpabet" if phones <= set(phone_set("arpabet39")) else "none"


# ── one step, and the gates ──────────────────────────────────────────────────────────────────


def _step(activations: Activations, chosen: Choice) -> Values:
    step = equations.telling_step(chosen.layer, chosen.cell)
    example = equations.example(activations, chosen.layer, chosen.cell, step)
    segments = activations.sentence.segments or ()
    return {
        "equations": equations.equations(activations.network.config.cell),
        "symbols": [(equations.formula(s), means) for s, means in equations.SYMBOLS.items()],
        "example": example,
        "worked": list(equations.substituted(example)) if example else [],
        "within": next((one for one in segments if step in activations.span(one)), None),
    }


def _boundaries(activations: Activations, known: Study | None) -> Values | None:
    if known is None or not known.boundaries:
        return None
    gate = activations.top.keep_gate or next(iter(activations.top.shown_gates))
    everywhere = {layer: gates[gate] for layer, gates in known.boundaries.items()}
    return {
        "gate": gate,
        "measured": next(iter(everywhere.values())).boundaries,
        "told": {
            layer: at
            for layer, at in everywhere.items()
            if at.p < SURE and abs(at.near - at.inside) >= WORTH
        },
        "pictures": figures.sized(
            lambda width: figures.around_boundaries(
                width, list(known.boundaries.items()), activations.network.step_s
            ),
            "gates by the distance from a boundary",
        ),
    }


# ── one cell ─────────────────────────────────────────────────────────────────────────────────


def _cell(activations: Activations, known: Study | None, chosen: Choice) -> Values | None:
    if known is None or known.recall is None or not chosen.by_recall:
        return None
    layer, cell = chosen.layer, chosen.cell
    states, classes = known.states[:, known.recall.best], np.asarray(known.previous)
    means = {name: float(states[classes == name].mean()) for name in set(known.previous)}
    order = sorted(means, key=lambda name: (means[name], name))
    usual = [name for name in order if (classes == name).sum() >= 10] or order
    manners = {manner for manner, _ in phone_classes().values()} - {"silence"}
    low, high = (
        {"name": f"{name}s" if name in manners else name, "mean": means[name]}
        for name in (usual[0], usual[-1])
    )
    label = "output" if layer.cell is None else "cell state"
    transition = study.clearest_transition(activations, layer, cell)
    values: Values = {
        "label": label,
        "by_class": figures.sized(
            lambda width: figures.by_class(width, states, known.previous, order, label),
            "state of the cell by the class of the phone before",
        ),
        "low": low,
        "high": high,
        "squeezed": float((np.abs(np.tanh(states)) > 0.99).mean()),
        "transition": transition,
    }
    if transition is None:
        return values
    first, last, second, step = transition
    return values | {
        "course": figures.sized(
            lambda width: figures.one_cell(
                width, activations, layer, cell, (first, second), float(activations.times_s[step])
            ),
            "state and gates of the cell through two phones",
        ),
        "kept": None if layer.keep is None else float(layer.keep[last + 1 : step + 1, cell].prod()),
    }


# ── reach ────────────────────────────────────────────────────────────────────────────────────


def _reach(activations: Activations, others: Sequence[Network]) -> Values:
    trained = [activations.network, *others]
    control = activations.network.untrained()
    measured = [
        (one, study.measure_reach(one, activations.sentence, figures.MOST_S))
        for one in (*trained, control)
    ]
    lags = [reach.falls_to(0.01) for _, reach in measured]
    order = sorted(range(len(trained)), key=lambda n: -(lags[n] or np.inf))
    own, untrained = lags[0], lags[-1]
    return {
        "trained": trained,
        "control": control,
        "measured": measured,
        "directions": study.DIRECTIONS,
        "most_s": figures.MOST_S,
        "corpora": sorted({str(one.about.get("corpus", "unknown")) for one in trained}),
        "both_ways": any(one.config.bidirectional for one in trained),
        "pictures": figures.sized(
            lambda width: figures.reaches(
                width, [(one.name, reach, one is control) for one, reach in measured]
            ),
            "influence of an input by its age",
        ),
        "ranked": [(trained[n].name, _lag(measured[n][1], 0.01)) for n in order],
        "growth": None if own is None or not untrained else own / untrained,
    }


def _lag(reach: Reach, share: float, later: bool = False) -> str:
    lag = reach.falls_to(share, later)
    farthest = float(np.abs(reach.lags).max()) * reach.step_s
    return f"beyond {wording.duration(farthest)}" if lag is None else wording.duration(lag)
