"""Phone error rates that say what they are: protocol, scorer, counts, intervals, comparison.

    >>> from asr.scoring import score
    >>> print(score({"a": ["aa", "q", "b"]}, {"a": ["aa", "d"]}).line())
    %PER 50.00 [ 1 / 2, 0 ins, 0 del, 1 sub ] strict (39 phones, q deleted, silence scored), \
scorer levenshtein, 1 utterances

Neither torch nor Hydra is imported here, and numba, jiwer and matplotlib only by what needs them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr.records import DataError
from asr.scoring import analysis, boundaries, intervals, significance
from asr.scoring.alignment import COSTS, align
from asr.scoring.base import (
    LENGTH_BIN,
    OPTIONAL,
    SCORERS,
    Alignment,
    Comparison,
    ErrorCounts,
    Interval,
    Report,
    Runs,
    Score,
    Transcript,
    Transcripts,
)
from asr.scoring.boundaries import TimedPair, Timing
from asr.scoring.formats import FORMATS, detect_format, pair, read_transcripts
from asr.scoring.protocols import Protocol, protocol, protocol_names

__all__ = [
    "FORMATS",
    "SCORERS",
    "Alignment",
    "Comparison",
    "ErrorCounts",
    "Interval",
    "Protocol",
    "Report",
    "Runs",
    "Score",
    "TimedPair",
    "Timing",
    "Transcript",
    "Transcripts",
    "compare",
    "compare_times",
    "count_large_files",
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

# From here on loading compiled code (about 0.7 s) is sooner done than without it.
LARGE_BYTES = 4_000_000
LARGE_CELLS = 4_000_000
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
    said = protocol.apply_all(references, "reference").items
    heard = protocol.apply_all(paired, "hypothesis").items
    alignments = [
        Alignment(said[id_], heard[id_], ops)
        for id_, ops in zip(said, _align_all(said, heard, protocol.optional, scorer), strict=True)
    ]
    other_err = None
    if both_scorers:
        other = next(name for name in SCORERS if name != scorer)
        every = _align_all(said, heard, protocol.optional, other)
        other_err = sum(ErrorCounts.of(ops).err for ops in every)
    total = ErrorCounts()
    by_speaker: dict[str, ErrorCounts] = {}
    lengths: dict[int, ErrorCounts] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    confusions: Counter[tuple[str | None, str | None]] = Counter()
    for alignment in alignments:
        counts = alignment.counts
        total += counts
        sizes[counts.ref, counts.err] += 1
        length = counts.ref // LENGTH_BIN * LENGTH_BIN
        lengths[length] = lengths.get(length, ErrorCounts()) + counts
        speaker = _speaker(alignment.reference)
        if speaker is not None:
            by_speaker[speaker] = by_speaker.get(speaker, ErrorCounts()) + counts
        ref_phones, hyp_phones = alignment.reference.phones, alignment.hypothesis.phones
        confusions.update(
            (None if i is None else ref_phones[i], None if j is None else hyp_phones[j])
            for op, i, j in alignment.steps()
            if op != OPTIONAL
        )
    return Score(
        protocol=protocol.name,
        says=protocol.says,
        scorer=scorer,
        total=total,
        speakers=dict(sorted(by_speaker.items())),
        sizes=sizes,
        lengths=lengths,
        confusions=confusions,
        alignments=alignments,
        ops={a.reference.id: a.ops for a in alignments},
        corpus=references.corpus,
        split=references.split,
        reference=references.path,
        hypothesis=hypotheses.path,
        missing=absent,
        other_err=other_err,
    )


def _align_all(
    said: Mapping[str, Transcript],
    heard: Mapping[str, Transcript],
    optional_phones: frozenset[str],
    scorer: str,
) -> list[str]:
    label: dict[str, int] = {}
    optional = frozenset(label.setdefault(p, len(label)) for p in sorted(optional_phones))
    pairs = [
        (
            [label.setdefault(p, len(label)) for p in said[id_].phones],
            [label.setdefault(p, len(label)) for p in heard[id_].phones],
        )
        for id_ in said
    ]
    cells = sum(len(reference) * len(hypothesis) for reference, hypothesis in pairs)
    if cells > LARGE_CELLS and (scorer == "sclite" or optional):
        try:
            from asr.scoring.kernels import align_many
        except ImportError:  # numba comes with librosa; without it this only takes longer
            pass
        else:
            return align_many(pairs, COSTS[scorer], optional)
    return [align(reference, hypothesis, scorer, optional) for reference, hypothesis in pairs]


def count_large_files(
    reference: str | Path,
    hypothesis: str | Path,
    protocol: Protocol,
    scorer: str,
    format_names: tuple[str | None, str | None] = (None, None),
    keep_ops: bool = False,
) -> Score | None:
    """The score of two large .trn or text files in one pass, without keeping their phones.

    None where the files are small, of another format, out of order or in any way odd: then
    `score_transcripts` is the way, and says what is wrong.
    """
    paths = (Path(reference), Path(hypothesis))
    if not all(path.is_file() for path in paths) or protocol.releases:
        return None
    if sum(path.stat().st_size for path in paths) < LARGE_BYTES:
        return None
    formats = {name or detect_format(p) for name, p in zip(format_names, paths, strict=True)}
    if formats not in ({"trn"}, {"text"}):
        return None
    try:
        from asr.scoring.kernels import IrregularError, count_files
    except ImportError:
        return None
    merged = tuple(protocol.merged.get(side, frozenset()) for side in ("reference", "hypothesis"))
    try:
        tally = count_files(
            *paths,
            formats.pop(),
            protocol.fold,
            merged,
            protocol.optional,
            scorer,
            LENGTH_BIN,
            keep_ops,
        )
    except IrregularError:
        return None
    return Score(
        protocol=protocol.name,
        says=protocol.says,
        scorer=scorer,
        total=tally.total,
        speakers=dict(sorted(tally.speakers.items())),
        sizes=tally.sizes,
        lengths=tally.lengths,
        confusions=tally.confusions,
        ops=tally.ops,
        reference=str(reference),
        hypothesis=str(hypothesis),
        other_err=tally.other_err,
    )


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
        return dict(score.ops)
    said = {a.reference.id: a.reference for a in score.alignments}
    heard = {a.reference.id: a.hypothesis for a in score.alignments}
    return dict(zip(said, _align_all(said, heard, optional, "sclite"), strict=True))


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


def _speaker(transcript: Transcript) -> str | None:
    if transcript.speaker is not None:
        return transcript.speaker
    for separator in "-_":
        place = transcript.id.find(separator, 1)
        if place > 0:
            return transcript.id[:place]
    return None
