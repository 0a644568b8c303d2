"""Phone error rates that say what they are: protocol, scorer, counts, intervals, comparison.

    >>> from asr.scoring import score
    >>> print(score({"a": ["aa", "q", "b"]}, {"a": ["aa", "d"]}).line())
    %PER 50.00 [ 1 / 2, 0 ins, 0 del, 1 sub ] strict (39 phones, q deleted, silence scored), \
scorer levenshtein, 1 utterances

Neither torch nor Hydra is imported here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from asr.errors import DataError
from asr.scoring import counts, protocols
from asr.scoring.alignment import SCORERS, Alignment, Pairs, align, error_count
from asr.scoring.analysis import Report
from asr.scoring.boundaries import TimedPair, Timing, compare_times
from asr.scoring.counts import ErrorCounts
from asr.scoring.formats import FORMATS, read_transcripts
from asr.scoring.pairing import pair
from asr.scoring.protocols import Protocol, protocol, protocol_names, protocols_named
from asr.scoring.result import LENGTH_BIN, Score, runs, with_intervals
from asr.scoring.significance import compare
from asr.scoring.symbols import in_phones, in_words
from asr.scoring.transcripts import Transcript, Transcripts, keyed, phones_of, speaker_of

__all__ = ["FORMATS", "ErrorCounts", "Protocol", "Report", "Score", "TimedPair", "Timing"]
__all__ += ["Transcript", "Transcripts", "compare", "compare_times", "in_phones", "protocol"]
__all__ += ["protocol_names", "protocols_named", "read_transcripts", "runs", "score"]
__all__ += ["score_transcripts", "with_intervals"]


def score(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    protocol: str = "strict",
    scorer: str = "levenshtein",
    *,
    missing: str = "error",
    symbols: str | tuple[str | None, str | None] | None = None,
    speakers: Mapping[str, str] | None = None,
    corpus: str = "",
    split: str = "",
) -> Score:
    """Score phones by utterance id; the same ids on both sides, or `DataError`.

    `missing` "delete" counts the phones of utterances without hypothesis as deleted. `symbols` is
    the alphabet of both sides, or of each, as in `asr.symbols`; None: the protocol's. `speakers`
    maps ids to speakers; without it the speaker is the part of the id before the first "-", or
    else the first "_", as in sclite. No interval is computed: see `with_intervals`.
    """
    if not isinstance(speakers or {}, Mapping):
        raise DataError(f"speakers: found {type(speakers).__name__}, expected a dictionary by id")
    sides = []
    alphabets = symbols if isinstance(symbols, tuple | list) else (symbols, symbols)
    for title, side, alphabet in (
        ("reference", references, alphabets[0]),
        ("hypothesis", hypotheses, alphabets[-1]),
    ):
        if not isinstance(side, Mapping):
            raise DataError(
                f"{title}: found {type(side).__name__}, expected a dictionary of phones by "
                f"utterance id, as in {{'a': ['s', 'ih', 't']}}"
            )
        one_by_one = (
            Transcript(
                id,
                phones_of(in_words(phones, alphabet), f"{title} {id!r}"),
                speaker=(speakers or {}).get(id),
            )
            for id, phones in side.items()
        )
        read = Transcripts(title, keyed(title, one_by_one), in_memory=True)
        sides.append(in_phones(read, alphabet))
    scored = score_transcripts(
        replace(sides[0], corpus=corpus, split=split),
        sides[1],
        protocols.protocol(protocol),
        scorer,
        missing,
    )
    return replace(scored, reference="", hypothesis="")


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
    if missing not in ("error", "delete"):
        raise DataError(f"missing is {missing!r}, expected 'error' or 'delete'")
    references, paired, absent = pair(references, hypotheses, missing)
    said = protocol.apply_all(references, "reference").items.values()
    heard = protocol.apply_all(paired, "hypothesis").items.values()
    pairs = Pairs([one.phones for one in said], [one.phones for one in heard], protocol.optional)
    ops = align(pairs, scorer)
    (other,) = set(SCORERS) - {scorer}
    each = counts.by_utterance(ops)
    ref, errors = each[:, 1], each[:, 3:].sum(axis=1)
    return Score(
        protocol=protocol.name,
        says=protocol.says,
        scorer=scorer,
        total=ErrorCounts(*each.sum(axis=0).tolist()),
        speakers=counts.by_group(map(speaker_of, said), each),
        sizes=Counter(zip(ref.tolist(), errors.tolist(), strict=True)),
        lengths=counts.by_group((ref // LENGTH_BIN * LENGTH_BIN).tolist(), each),
        confusions=counts.confusions(*pairs.codes, ops),
        alignments=[Alignment(*aligned) for aligned in zip(said, heard, ops, strict=True)],
        corpus=references.corpus,
        split=references.split,
        reference=references.path,
        hypothesis=hypotheses.path,
        missing=absent,
        other_err=error_count(pairs, other) if both_scorers else None,
    )
