"""`asr align --check`: the likeliest wrong words of recordings, as a table or as JSON."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from asr import alignment, audio
from asr.aligner import Aligner
from asr.checker import Check, Checker
from asr.commands.texts import Pair
from asr.corpora.lexicon import Said
from asr.errors import DataError
from asr.files.outputs import atomic_open
from asr.transcriber import MODEL, Transcriber, load_model

LISTED = 30  # words of a table
SUSPECT = 0.9  # a word is listed below this probability
FORMATS = (".json", ".jsonl")


def run(
    jobs: Mapping[int, tuple[Pair, Sequence[Said]]],
    say: Callable[[str, Pair, str], object],
    output: Path | None,
    aligner: Path | None,
    device: str,
    channel: int | None = None,
) -> list[Check]:
    """What is judged of each pair; a table of it is printed, and all of it written to `output`.

    `say` gets a sentence for each pair that cannot be judged ("error"), or has the transcript of
    another recording ("doubt").
    """
    recogniser = Transcriber(load_model(MODEL, device, language_model=False))
    model = Checker(recogniser, lambda: Aligner(alignment.load(aligner, device).network))
    checks: dict[str, Check] = {}
    for pair, said in tqdm(jobs.values(), desc="checked", leave=False, disable=None):
        id = pair.utterance.id if pair.utterance else pair.audio
        try:
            with audio.on_disk(pair.audio):
                waveform = np.concatenate(list(recogniser.blocks(pair.audio, channel=channel)))
            result = model.check(pair.audio, waveform, said, lambda _: None)
        except DataError as error:
            for problem in error.problems:
                say("error", pair, problem)
            continue
        checks[id] = result
        if result.is_other:
            share = f"(agreement {result.agreement:.2f}, 1 is the best)"
            say("doubt", pair, f"seems to have the transcript of another recording {share}")
    print("\n".join(table(checks)))
    if output:
        rows = [{"id": id} | check.to_dict() for id, check in checks.items()]
        with atomic_open(output) as file:
            if output.suffix == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                json.dump(rows, file, indent=2)
                file.write("\n")
        print(output, file=sys.stderr)
    return list(checks.values())


def table(checks: Mapping[str, Check]) -> Iterator[str]:
    """The likeliest wrong words, of recordings that have their own transcripts."""
    suspects = sorted(
        ((one, id) for id, check in checks.items() if not check.is_other for one in check.suspects),
        key=lambda both: both[0].probability,
    )
    suspects = [both for both in suspects if both[0].probability < SUSPECT]
    words = sum(len(check.words) for check in checks.values())
    yield f"{len(suspects)} places have a probability below {SUSPECT} to be right, of {words} words"
    if suspects:
        yield f"{'right':>6} {'at s':>9}  {'word':16} {'what':9} {'recognised':24} recording"
    for one, id in suspects[:LISTED]:
        word = one.word
        if one.kind == "missing":
            word = f"after {word}" if one.number >= 0 else "at the start"
        heard = " ".join(one.heard)
        yield f"{one.probability:6.3f} {one.start_s:9.2f}  {word:16} {one.kind:9} {heard:24} {id}"
    if len(suspects) > LISTED:
        yield f"… and {len(suspects) - LISTED} more; --output FILE.json has all"
