"""The commands in README, CONTRIBUTING and docs: found in their indented lines."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROGRAMS = re.compile(r"(\.venv/bin/)?(make|asr|python3?|pip) ")


@dataclass(frozen=True)
class Command:
    """A command with its place; `words` are its arguments as a shell would give them."""

    place: str  # file:line
    text: str
    is_refused: bool  # the line below it is the error

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def commands() -> Iterator[Command]:
    """Every command of a tracked Markdown file, without prompts, comments and explanations."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        if not name.startswith("asr/templates/"):
            yield from _commands_of(name, (REPOSITORY / name).read_text(encoding="utf-8"))


def _commands_of(name: str, text: str) -> Iterator[Command]:
    whole, begun = "", 0
    lines = text.splitlines()

    def refused(number: int) -> bool:
        return number < len(lines) and lines[number].strip().startswith("error:")

    for number, line in enumerate(lines, start=1):
        if not line.startswith("    ") and not whole:
            continue
        begun = begun if whole else number
        # An explanation stands after two blanks, or after a #.
        part = re.split(r"\s{2,}|\s#\s", line.strip().removeprefix("$ "), maxsplit=1)[0]
        whole += part.removesuffix("\\")
        if part.endswith("\\"):
            continue
        for one in re.split(r"\s*&&\s*", whole):
            if PROGRAMS.match(one):
                optional = re.sub(r"(?<= )\[([^\]]*)\](?= |$)", r"\1", one)
                yield Command(f"{name}:{begun}", optional.strip(), refused(number))
        whole = ""
