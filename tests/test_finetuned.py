"""The packaged model fine-tuned to a folder of speech."""

import dataclasses
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import tones_of

from asr import checkpoint, train
from asr.commands import prepare
from asr.commands.configured import compose
from asr.errors import DataError
from asr.phones import Vocabulary
from asr.training.initialization import carry_over, draw
from asr.transcriber import MODEL


def test_the_experiment_has_what_the_packaged_model_has() -> None:
    config = compose(["experiment=folder-finetuned", "corpus.root=x"])
    packaged = checkpoint.load(MODEL).recognizer.config
    assert config.features == packaged.features
    assert config.encoder == dataclasses.replace(packaged.encoder, dropout=config.encoder.dropout)


def test_all_that_differs_is_named_with_what_fixes_it() -> None:
    typed = ["experiment=folder", "corpus.root=x", "training.start_from=packaged"]
    config = compose(typed)
    vocabulary = Vocabulary(["aa", "s"])
    with pytest.raises(DataError) as refused:
        carry_over("packaged", draw(config, vocabulary, torch.device("cpu")))
    fixes = str(refused.value).partition("unless you set ")[2].split()
    assert {"features.energy=false", "encoder.hidden=320"} <= set(fixes)
    config = compose([*typed, *fixes])
    assert carry_over("packaged", draw(config, vocabulary, torch.device("cpu")))


def test_it_starts_on_a_folder_of_speech(tmp_path: Path) -> None:
    for number, speaker in enumerate("abcd"):
        place = tmp_path / "speech" / speaker
        place.mkdir(parents=True)
        phones = ["aa", "s", "m"][: 2 + number % 2]
        each = 2400 + 160 * number
        soundfile.write(place / "1.wav", tones_of(phones, tone_s=each / 16_000), 16_000)
        lines = [f"{n * each} {(n + 1) * each} {phone}\n" for n, phone in enumerate(phones)]
        (place / "1.phn").write_text("".join(lines))
    config = compose(
        [
            "experiment=folder-finetuned",
            f"corpus.root={tmp_path}/speech",
            f"run_dir={tmp_path}/run",
            *("training.epochs=1", "device=cpu", "threads=1"),
        ]
    )
    prepare.run(config)
    train.run(config)
    trained = checkpoint.load(tmp_path / "run" / "checkpoint-best.safetensors")
    assert trained.recognizer.vocabulary.phones == ("aa", "m", "s")
