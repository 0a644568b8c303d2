"""Phone error rates that say what they are: protocol, scorer, counts, intervals, comparison.

    >>> from asr.scoring import score
    >>> print(score({"a": ["aa", "q", "b"]}, {"a": ["aa", "d"]}).line())
    %PER 50.00 [ 1 / 2, 0 ins, 0 del, 1 sub ] strict (39 phones, q deleted, silence scored), \
scorer levenshtein, 1 utterances

Neither torch nor Hydra is imported here, and numba, jiwer and matplotlib only by what needs them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr.errors import DataError
from asr.scoring import alignment, analysis, boundaries, counts, intervals, significance
from asr.scoring.base import (
    CORRECT,
    OPTIONAL,
    SCORERS,
    Alignment,
    Comparison,
    ErrorCounts,
    Interval,
    Pairs,
    Report,
    Runs,
    Score,
    Transcript,
    Transcripts,
)
from asr.scoring.boundaries import TimedPair, Timing
from asr.scoring.formats import FORMATS, pair, read_transcripts
from asr.scoring.protocols import Protocol, protocol, protocol_names

__all__ = [
    "FORMATS",
    "SCORERS",
    "Alignment",
    "Comparison",
    "ErrorCounts",
    "Interval",
    "Pairs",
    "Protocol",
    "Report",
    "Runs",
    "Score",
    "TimedPair",
    "Timing",
    "Transcript",
    "Transcripts",
    "align",
    "compare",
    "compare_times",
    "error_count",
    "investigate",
    "protocol",
    "protocol_names",
    "protocols_named",
    "read_transcripts",
    "runs",
    "score",
    "score_transcripts",
    "with_intervals",
]

MANY_CELLS = 2_000_000  # from which on loading compiled code (0.5 s) is sooner done than without
SCLITE_MARKUP = "is markup to sclite (@ nothing, a* a, a;b a), a phone here: its own counts differ"

_protocol_named = protocol


def score(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    protocol: str = "strict",
    scorer: str = "levenshtein",
    *,
    speakers: Mapping[str, str] | None = None,
    corpus: str = "",
    split: str = "",
) -> Score:
    """Score phones by utterance id; the same ids on both sides, or `DataError`.

    `speakers` names the speaker of every id; without it the part of the id before the first "-",
    or else the first "_", does, as in sclite. No interval is computed: see `with_intervals`.
    """
    named = speakers or {}
    sides = [
        Transcripts(
            name,
            {i: Transcript(i, tuple(phones), speaker=named.get(i)) for i, phones in side.items()},
            corpus,
            split,
        )
        for name, side in (("reference", references), ("hypothesis", hypotheses))
    ]
    found = score_transcripts(sides[0], sides[1], _protocol_named(protocol), scorer)
    return replace(found, reference="", hypothesis="")


def score_transcripts(
    references: Transcripts,
    hypotheses: Transcripts,
    protocol: Protocol,
    scorer: str = "levenshtein",
    missing: str = "error",
    both_scorers: bool = False,
) -> Score:
    """Fold both sides as `protocol` says, align every utterance and count."""
    if scorer not in SCORERS:
        raise DataError(f"unknown scorer {scorer!r}: known are {', '.join(SCORERS)}")
    paired, absent = pair(references, hypotheses, missing)
    said = protocol.apply_all(references, "reference").items.values()
    heard = protocol.apply_all(paired, "hypothesis").items.values()
    pairs = Pairs([one.phones for one in said], [one.phones for one in heard], protocol.optional)
    ops = align(pairs, scorer)
    alignments = [Alignment(*aligned) for aligned in zip(said, heard, ops, strict=True)]
    other_err = None
    if both_scorers:
        other = next(name for name in SCORERS if name != scorer)
        other_err = error_count(pairs, other)
    groups, sizes = counts.grouped(alignments)
    return Score(
        protocol=protocol.name,
        says=protocol.says,
        scorer=scorer,
        total=sum(groups.values(), ErrorCounts()),
        speakers=counts.by_speaker(groups),
        sizes=sizes,
        lengths=counts.by_length(groups),
        confusions=counts.confusions(pairs, ops),
        alignments=alignments,
        corpus=references.corpus,
        split=references.split,
        reference=references.path,
        hypothesis=hypotheses.path,
        missing=absent,
        other_err=other_err,
    )


def align(pairs: Pairs, scorer: str) -> list[str]:
    """The scorer's alignment of every pair: one letter of CSDIO for each of its steps."""
    if scorer == "levenshtein" and not pairs.optional:
        return alignment.fewest_errors(pairs)
    return _cheapest(pairs, scorer)


def error_count(pairs: Pairs, scorer: str) -> int:
    """Errors in what `align` gives: by levenshtein, all cheapest alignments have equally many."""
    every = _cheapest(pairs, scorer)
    return sum(len(ops) - ops.count(CORRECT) - ops.count(OPTIONAL) for ops in every)


def _cheapest(pairs: Pairs, scorer: str) -> list[str]:
    if pairs.cells > MANY_CELLS:
        from asr.scoring import kernels

        return kernels.cheapest(pairs, alignment.COSTS[scorer])
    return alignment.cheapest(pairs, alignment.COSTS[scorer])


def protocols_named(name: str, map_file: str | Path | None = None) -> list[Protocol]:
    """The protocol of this name, or with "all" every one that `map_file` leaves a folding to."""
    if name != "all":
        return [protocol(name, map_file)]
    every = [protocol(known) for known in protocol_names()]
    return [protocol(p.name, map_file) for p in every if map_file is None or not p.releases]


def with_intervals(score: Score, replicates: int = 1000, seed: int = 0) -> Score:
    """The same score with 95 % bootstrap intervals, by speaker and by utterance where possible."""
    found = {
        "speaker": intervals.by_speaker(score.speakers, replicates, seed),
        "utterance": intervals.by_utterance(score.sizes, replicates, seed),
    }
    return replace(score, intervals={k: v for k, v in found.items() if v is not None})


def compare(
    a: Score, b: Score, protocol: Protocol, replicates: int = 1000, seed: int = 0
) -> Comparison:
    """Whether A and B, scored on the same references under `protocol`, can be told apart.

    MAPSSWE always takes sclite's alignments; the bootstrap draws speakers, or utterances where
    fewer than two speakers are known.
    """
    if {a.protocol, b.protocol} != {protocol.name} or a.scorer != b.scorer:
        raise DataError("only scores of one protocol and one scorer can be compared")
    steps = [_sclite_steps(score, protocol.optional) for score in (a, b)]
    if len(a.speakers) > 1:
        by, counts_a, counts_b = "speaker", a.speakers, b.speakers
    else:
        by = "utterance"
        counts_a, counts_b = (
            {x.reference.id: x.counts for x in score.alignments} for score in (a, b)
        )
    return Comparison(
        a.hypothesis,
        b.hypothesis,
        a.total,
        b.total,
        significance.mapsswe((steps[0][id_], steps[1][id_]) for id_ in steps[0]),
        significance.paired_bootstrap(counts_a, counts_b, by, replicates, seed),
    )


def compare_times(pairs: Iterable[TimedPair], replicates: int = 1000, seed: int = 0) -> Timing:
    """How far times that were found lie from hand-made ones, with 95 % intervals by speaker."""
    timing = boundaries.measure(pairs)
    found = {}
    for name, speakers in timing.rates.items():
        wrong = intervals.by_speaker(speakers, replicates, seed)
        if wrong is not None:
            found[name] = Interval(100.0 - wrong.high, 100.0 - wrong.low)
    return replace(timing, intervals=found)


def _sclite_steps(score: Score, optional: frozenset[str]) -> dict[str, str]:
    if score.scorer == "sclite":
        return score.ops
    said = [aligned.reference.phones for aligned in score.alignments]
    heard = [aligned.hypothesis.phones for aligned in score.alignments]
    steps = align(Pairs(said, heard, optional), "sclite")
    return dict(zip(score.ops, steps, strict=True))


def runs(scores: Sequence[Score]) -> Runs | None:
    """Mean and sd (n - 1) over the seeds of one system; None for one score, or without phones."""
    if len(scores) < 2 or any(score.total.ref == 0 for score in scores):
        return None
    rates = [score.total.per for score in scores]
    mean = sum(rates) / len(rates)
    sd = (sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1)) ** 0.5
    return Runs(len(rates), mean, sd)


def investigate(
    score: Score,
    *,
    comparison: Comparison | None = None,
    runs: Runs | None = None,
    replicates: int = 0,
    seed: int = 0,
) -> Report:
    """Everything there is to say about a score: groups, confusions, boundaries, notes."""
    return Report(
        score=score,
        groups=analysis.groups(score),
        frequent=analysis.frequent(score),
        matrices=analysis.matrices(score),
        boundaries=analysis.boundaries(score),
        comparison=comparison,
        runs=runs,
        notes=_notes(score),
        replicates=replicates,
        seed=seed,
    )


def _notes(score: Score) -> list[str]:
    notes = []
    if score.is_synthetic:
        notes.append("the speech is synthetic: this rate says nothing about people's speech")
    if score.missing:
        notes.append(
            f"{score.missing} utterances without hypothesis count as deletions (--missing delete)"
        )
    if len(score.speakers) < 2:
        known = "one speaker" if score.speakers else "no speakers"
        notes.append(f"{known} known, so no interval by speaker: it would be wider than this one")
    if score.scorer == "sclite":
        phones = {phone for said_heard in score.confusions for phone in said_heard if phone}
        markup = sorted(p for p in phones if p == "@" or ";" in p or (len(p) > 1 and p[-1] == "*"))
        notes += [f"{phone!r} {SCLITE_MARKUP}" for phone in markup]
    return notes
