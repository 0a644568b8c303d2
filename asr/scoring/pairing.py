"""Which hypothesis belongs to which reference, by rules that are written in docs/scoring.md."""

from bisect import bisect_right
from dataclasses import replace

from asr.errors import DataError, raise_problems
from asr.scoring.transcripts import Transcript, Transcripts, parts_of

MOST_NAMED = 10


def pair(
    references: Transcripts, hypotheses: Transcripts, missing: str = "error"
) -> tuple[Transcripts, Transcripts, int]:
    """Both sides in the order of the references, and how many hypotheses were missing.

    A hypothesis without reference is an error; so is a reference without hypothesis, unless
    `missing` is "delete", which gives it an empty hypothesis.
    """
    for side in (references, *[hypotheses] * (missing != "delete")):
        if not side.items:
            raise DataError(f"{side.path}: no utterance in it, expected at least one")
    hypotheses = _renamed(references, hypotheses)
    said, heard = references.items, hypotheses.items
    extra = [t for id_, t in heard.items() if id_ not in said]
    absent = [t for id_, t in said.items() if id_ not in heard]
    problems = [
        f"{hypotheses.where(heard[id_])}: {id_} is of channel {heard[id_].channel}, and in "
        f"{references.path} of channel {one.channel}; expected one channel on both sides"
        for id_, one in said.items()
        if one.channel and id_ in heard and {one.channel, heard[id_].channel} == {"A", "B"}
    ]
    lowered = {id_.lower(): id_ for id_ in said} if extra else {}
    hints = []
    for t in extra[:MOST_NAMED]:
        like = lowered.get(t.id.lower())
        hints.append(f"; the reference has {like!r}: fix the letter case" if like else "")
    if extra and len(absent) == len(said) and len(said) + len(extra) > 2:
        raise DataError(
            f"{hypotheses.path}: no id in common with the references: {extra[0].id!r} is the first "
            f"here, {references.path} has {absent[0].id!r}; expected the same ids on both sides"
            f"{hints[0]}"
        )
    for t, hint in zip(extra, hints, strict=False):
        problems.append(f"{hypotheses.where(t)}: id {t.id!r} is not in {references.path}{hint}")
    if len(extra) > MOST_NAMED:
        problems.append(f"… and {len(extra) - MOST_NAMED} more ids that are not in the reference")
    if absent and (extra or missing != "delete"):
        named = ", ".join([*(repr(t.id) for t in absent[:5]), *["…"] * (len(absent) > 5)])
        problems.append(
            f"{hypotheses.path}: no hypothesis for {len(absent)} of {len(said)} utterances of "
            f"{references.path}: {named} ({references.where(absent[0])}); add them, or count them "
            f"as deletions with {hypotheses.option('missing', 'delete')}"
        )
    raise_problems(problems)
    ordered = {id_: heard[id_] if id_ in heard else Transcript(id_, ()) for id_ in said}
    return *_in_parts(references, replace(hypotheses, items=ordered)), len(absent)


def _renamed(references: Transcripts, hypotheses: Transcripts) -> Transcripts:
    """The hypotheses by the ids of the references, where file or channel says which one is meant.

    A recording alone is its only channel. A file is the utterance that has its name, or its
    name after names of its folders; or else the only one whose id ends in "-" or "_" and its name.
    """
    said, names, problems = references.items, dict[str, str](), list[str]()
    unknown = [one for id_, one in hypotheses.items.items() if id_ not in said]
    whole: dict[str, list[str]] = {}
    by_ending: dict[str, list[str]] = {}
    for id_ in said if any(one.file for one in unknown) else ():
        whole.setdefault(_plain(id_), []).append(id_)
        words = _plain(id_).split("_")
        for begin in range(len(words)):
            by_ending.setdefault("_".join(words[begin:]), []).append(id_)
    for one in unknown:
        ids: list[str] = []
        if one.file:
            parts = parts_of(one.file)
            ends = [_plain("_".join(parts[-n:])) for n in range(1, len(parts) + 1)]
            fit = next((end for end in ends if end in whole), None)
            ids = by_ending.get(ends[0], []) if fit is None else whole[fit]
        elif one.channel:
            like = f"{one.id}-{one.channel}", one.id.removesuffix(f"-{one.channel}")
            ids = [i for i in like if i in said and said[i].channel in (None, one.channel)]
        if len(ids) > 1:
            problems.append(
                f"{hypotheses.where(one)}: {one.file or one.id} can be {ids[0]!r} or {ids[1]!r} of "
                f"{references.path}; expected a path or an id that tells them apart"
            )
        elif ids:
            names[one.id] = ids[0]
    items: dict[str, Transcript] = {}
    for id_, one in hypotheses.items.items() if names else ():
        new = names.get(id_, id_)
        first = items.setdefault(new, one._replace(id=new))
        if (first.line, first.file) != (one.line, one.file):
            problems.append(
                f"{hypotheses.where(one)}: {one.file or id_} is a duplicate of {new!r}, as "
                f"{first.file or new} is; keep one of them"
            )
    raise_problems(problems)
    return replace(hypotheses, items=items) if names else hypotheses


def _plain(id_: str) -> str:
    return id_.lower().replace("-", "_")


def _in_parts(references: Transcripts, hypotheses: Transcripts) -> tuple[Transcripts, Transcripts]:
    """Recordings that have parts become an utterance for each part, as in sclite.

    A phone belongs to the first part that ends after the phone's middle, or else to the last.
    Recordings whose hypothesis has no times stay whole.
    """
    if not any(one.parts for one in references.items.values()):
        return references, hypotheses
    said: dict[str, Transcript] = {}
    heard: dict[str, Transcript] = {}
    for id_, reference in references.items.items():
        hypothesis = hypotheses.items[id_]
        parts, times = reference.parts, hypothesis.times_s
        if parts and hypothesis.phones and times is None:
            if any(part.phones is None for part in parts):
                raise DataError(
                    f"{hypotheses.where(hypothesis)}: {id_} has no times, and {references.path} "
                    f"has segments of it that are not scored; expected hypotheses as ctm"
                )
            parts = ()
        if not parts:
            said[id_], heard[id_] = reference, hypothesis
            continue
        ends = [part.end_s for part in parts[:-1]]
        places = [bisect_right(ends, (start + end) / 2) for start, end in times or ()]
        for n, part in enumerate(parts):
            if part.phones is None:
                continue
            new = f"{id_}-{n + 1:03d}"
            chosen = [k for k, place in enumerate(places) if place == n]
            said[new] = Transcript(new, part.phones, part.line, speaker=part.speaker)
            heard[new] = hypothesis._replace(
                id=new,
                phones=tuple(hypothesis.phones[k] for k in chosen),
                times_s=times and tuple(times[k] for k in chosen),
            )
    return replace(references, items=said), replace(hypotheses, items=heard)
