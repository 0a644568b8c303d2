"""README's "Reading it" keeps its promise: eleven files, few lines, few names from elsewhere."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MAIN_PATH = (
    "records",
    "architecture",
    "dataset",
    "features/layer",
    "features/frames",
    "encoder",
    "lstm/layer",
    "criteria/base",
    "criteria/ctc",
    "recognizer",
    "train",
)
MOST_CODE_LINES = 1_200
# What a reader meets on the main path and can take on trust, each known by its name alone.
LEAVES: dict[str, set[str]] = {
    "asr": {"audio", "checkpoint", "criteria", "scoring"},
    "asr.augment": {"Augment", "seed_of"},
    "asr.batch": {"Batch", "MicroBatch", "cut", "frames_of_10_ms", "length_mask", "pad", "reverse"},
    "asr.config": {"RunConfig"},
    "asr.errors": {"DataError", "without_tracebacks"},
    "asr.features.cache": {"FrameCache"},
    "asr.features.config": {"FeaturesConfig"},
    "asr.features.deltas": {"put_deltas", "stack_context"},
    "asr.features.filters": {"dither_noise", "kaldi_filters", "librosa_filters", "window_function"},
    "asr.features.kaldi": {"Kaldi"},
    "asr.features.librosa": {"Librosa"},
    "asr.features.moments": {"Moments", "Sums", "around", "loudest", "of_frames", "of_loud"},
    "asr.features.normalization": {
        "Normalization",
        "SpeakerMoments",
        "normalization",
        "of_speakers",
        "over_ranks",
    },
    "asr.features.padded": {"by_utterance"},
    "asr.features.running": {"Running"},
    "asr.features.windows": {"Shaping", "spectra", "mel_power", "put_slopes"},
    "asr.files": {"moved", "name", "names", "require_kind"},
    "asr.files.decoding": {"decode", "impossible"},
    "asr.files.outputs": {"atomic_open"},
    "asr.knobs": {"Knobs", "knob"},
    "asr.lstm.cell": {"Cell", "Trace"},
    "asr.lstm.cells": {"CELLS"},
    "asr.lstm.fast.forms": {"unroll"},
    "asr.phones": {"Vocabulary"},
    "asr.processor": {"ranks"},
    "asr.processor.device": {"choose_device"},
    "asr.processor.workers": {"ignore_signals"},
    "asr.search": {"SearchConfig"},
    "asr.search.decoders": {"CTCDecoder", "Decoder", "hypothesis"},
    "asr.search.graph": {"Graph"},
    "asr.search.paths": {"BLANK", "Path", "Span"},
    "asr.search.word_model": {"graph_for"},
    "asr.training": {"initialization"},
    "asr.training.batches": {"training_batches"},
    "asr.training.learner": {"Learner", "build_learner"},
    "asr.training.memory": {"require_room"},
    "asr.training.progress": {"Pauses", "Progress"},
    "asr.training.run_directory": {"RunDirectory", "place"},
    "asr.training.schedule": {"History", "Phase", "phases"},
}


def source(name: str) -> str:
    return (REPOSITORY / "asr" / f"{name}.py").read_text(encoding="utf-8")


def code_lines(text: str) -> int:
    """Lines that hold code: no docstring, no comment, no blank line."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            documented.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    silent = {
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
        *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def imported(name: str) -> set[tuple[str, str]]:
    """Module and name of all that a file imports from this package."""
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(source(name)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asr"
        for alias in node.names
        if node.module
    }


def test_code_lines_are_counted_without_docstrings_and_comments() -> None:
    text = (
        '"""Says\nwhat."""\n\nx = [  # one\n    1,\n]\n\ndef f():\n    """Does."""\n    return x\n'
    )
    assert code_lines(text) == 5


def test_the_main_path_is_short() -> None:
    counts = {name: code_lines(source(name)) for name in MAIN_PATH}
    assert sum(counts.values()) <= MOST_CODE_LINES, counts


@pytest.mark.parametrize("name", MAIN_PATH)
def test_the_main_path_imports_itself_and_few_leaves(name: str) -> None:
    own = {"asr." + one.removesuffix("/__init__").replace("/", ".") for one in MAIN_PATH}
    strange = {
        (module, what)
        for module, what in imported(name)
        if module not in own
        and f"{module}.{what}" not in own
        and what not in LEAVES.get(module, ())
    }
    assert not strange, f"asr/{name}.py imports {sorted(strange)}"


def test_no_leaf_is_superfluous() -> None:
    used = {pair for name in MAIN_PATH for pair in imported(name)}
    assert {(module, name) for module, names in LEAVES.items() for name in names} <= used


def test_the_readme_lists_these_files_in_this_order() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Reading it")[2].partition("\n## ")[0]
    linked = re.findall(r"\(asr/([\w/]+)\.py\)", section)
    assert tuple(linked) == MAIN_PATH
