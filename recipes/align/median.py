"""Manifests of the same utterances with times from several aligners → one with their medians.

    python recipes/align/median.py gmm.jsonl net1.jsonl net2.jsonl --output median.jsonl

Between two phones there is silence where at least half of the aligners have it. Utterances in which
two aligners differ by more than `--apart` seconds anywhere are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.errors import DataError, exit_code
from asr.files.outputs import require_new
from asr.records import Manifest, Segment, Utterance, write_jsonl


def median(utterances: Sequence[Utterance], apart_s: float) -> Utterance | None:
    """The first utterance with the median of all its edges; None where they are too far apart."""
    if any(one.phones != utterances[0].phones or not one.segments for one in utterances):
        raise DataError(f"{utterances[0].id}: expected the same phones with times in all manifests")
    edges = np.array([[segment[1:3] for segment in one.segments or ()] for one in utterances])
    if np.ptp(edges, axis=0).max() > apart_s:
        return None
    result = np.median(edges, axis=0)
    pauses = (edges[:, 1:, 0] - edges[:, :-1, 1] > 1e-6).mean(axis=0) >= 0.5
    for n in np.flatnonzero(~pauses):
        result[n, 1] = result[n + 1, 0] = (result[n, 1] + result[n + 1, 0]) / 2
    if (np.diff(result.reshape(-1)) < 0).any() or (result[:, 0] == result[:, 1]).any():
        return None
    times = zip(utterances[0].phones, result.round(5).tolist(), strict=True)
    return replace(utterances[0], segments=tuple(Segment(phone, *one) for phone, one in times))


@exit_code
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--apart", type=float, default=0.25, metavar="SECONDS")
    options = parser.parse_args()
    require_new([options.output], False, options.manifests)
    first, *others = ({one.id: one for one in Manifest(path)} for path in options.manifests)
    common = [id for id in first if all(id in other for other in others)]
    medians = [median([first[id], *(o[id] for o in others)], options.apart) for id in common]
    kept = [one for one in medians if one is not None]
    write_jsonl(options.output, kept)
    print(f"{options.output}: {len(kept)} utterances, {len(common) - len(kept)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
