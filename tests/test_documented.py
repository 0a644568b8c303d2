"""The commands in README, CONTRIBUTING and docs exist, and so do their arguments."""

import argparse
import importlib
import re
import sys

import documented
import pytest
from conftest import make
from documented import REPOSITORY, Command

from asr.__main__ import COMMANDS
from asr.commands import configured

HYDRA = ("prepare", "train", "tune", "decode")
ALL = list(documented.commands())


def of(program: str) -> list[pytest.param]:
    """The commands of a program, each once."""
    named = [one for one in ALL if one.words[0].endswith(program) and not one.is_refused]
    first = {one.text: one for one in reversed(named)}
    return [pytest.param(one, id=f"{one.place} {one.text}") for one in first.values()]


class ParsedError(Exception):
    """The arguments of a command are right."""


@pytest.mark.parametrize("command", of("asr"))
def test_arguments_of_asr(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = command.words[1:]
    arguments = [one for one in arguments if "…" not in one and one != "$RUN" and one != "$run"]
    assert name in COMMANDS
    if name in HYDRA:
        if "-m" in arguments:  # the first job
            arguments = [one.partition(",")[0] for one in arguments]
        configured.compose(
            ["corpus.root=x", *(one for one in arguments if not one.startswith("-"))]
        )
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, given: list[str] | None = None) -> None:
        parse(parser, given)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", [f"asr {name}", *arguments])
    with pytest.raises(ParsedError):
        importlib.import_module(f"asr.commands.{name}").main()


@pytest.mark.parametrize("command", of("make"))
def test_targets_and_variables_of_make(command: Command) -> None:
    made = make("-n", "-o", ".venv/.ready", *command.words[1:])
    assert made.returncode == 0, made.stderr


def test_commands_named_in_a_sentence_exist() -> None:
    targets = {*re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)}
    named = set()
    for page in documented.pages():
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        for program, name in re.findall(r"`(asr|make) ([a-z][a-z0-9-]*)(?=[ `])", text):
            named.add((page, program, name))
    assert len(named) > 50
    assert {
        (page, program, name)
        for page, program, name in named
        if name not in (COMMANDS if program == "asr" else targets)
    } == set()


@pytest.mark.parametrize("command", of("python"))
def test_scripts_exist(command: Command) -> None:
    script = command.words[1]
    assert script.startswith("-") or (REPOSITORY / script).is_file()
