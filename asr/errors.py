"""What is wrong with input, in one sentence, and how a command ends with it."""

import codecs
import errno
import io
import json
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, ParamSpec
from unicodedata import category

DISTRIBUTION = "asr-phones"  # the name that pip knows; on PyPI, asr is another package


def pip_install(extra: str) -> str:
    """The command that adds an extra of pyproject.toml to this installation."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


FULL = (errno.ENOSPC, errno.EDQUOT)  # error numbers of a disk, or of a user's share of it

LAYOUT = "\n\t"  # of messages of several lines
FEW, NAMED = 3, 10  # equal problems that are all listed; places that are named where there are more


class DataError(ValueError):
    """Wrong input: the message names the file, what was found and how to fix it.

    Commands print it without a traceback, and exit with 1. `problems` has one sentence for each
    thing that is wrong; the message is all of them.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


def escaped(text: str, kept: str = "") -> str:
    r"""A name in one line: line breaks and control characters are `\n`, `\x1b`, `\u2028`.

    Those in `kept` stay as they are.
    """
    return "".join(
        one if one in kept or category(one) not in ("Cc", "Zl", "Zp") else ascii(one)[1:-1]
        for one in text
    )


def raise_problems(problems: Iterable[str]) -> None:
    """Raise one `DataError` that lists every problem, if there is any."""
    lines = [
        line
        for problem in problems
        for line in problem.splitlines()
        if not re.fullmatch(r"\d+ problems:", line)  # a list within the list
    ]
    if len(lines) == 1:
        raise DataError(lines[0])
    if lines:
        raise DataError("\n".join([f"{len(lines)} problems:", *grouped(lines)]), lines)


def grouped(problems: Iterable[str]) -> Iterator[str]:
    """The problems, where a cause of more than FEW places is said once with its count.

    A cause is what follows the place (a file and line, or an id), whatever the numbers in it.
    """
    causes: dict[str, list[str]] = {}
    for problem in problems:
        causes.setdefault(cause_of(problem), []).append(problem)
    for alike in causes.values():
        if len(alike) <= FEW:
            yield from alike
            continue
        yield alike[0]
        yield f"    {the_same(problem.partition(': ')[0] for problem in alike[1:])}"


def cause_of(problem: str) -> str:
    """What follows the place in a problem, without the numbers."""
    return re.sub(r"(?<![\w'])[\d.]+(?![\w'])", "#", problem.partition(": ")[2] or problem)


def the_same(places: Iterable[str]) -> str:
    """How often, and where, there are problems of a cause that was said."""
    all_of_them = list(places)
    others = list(dict.fromkeys(all_of_them))
    more = len(others) - NAMED
    return f"and the same {len(all_of_them)} times more: {', '.join(others[:NAMED])}" + (
        f", and {more} more" if more > 0 else ""
    )


def did_you_mean(wrong: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint at the nearest of the known names, `; did you mean 'x'?`, or "" where none is near."""
    from difflib import get_close_matches  # which takes 0.01 s to import

    near = get_close_matches(wrong, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Remove from a `DataError` the traceback that torch puts before errors of its workers."""
    try:
        yield
    except DataError as error:
        sentence = str(error).rpartition("asr.errors.DataError: ")[2].strip()
        raise DataError(sentence) from error


P = ParamSpec("P")


def exit_code(command: Callable[P, int | None]) -> Callable[P, int]:
    """Decorator of a command: wrong input or a failing disk is one sentence, and exit code 1.

    The exit code is otherwise what the command returns, or 0; 130 when interrupted, and 0 when the
    reader of its output has gone (`| head`). Characters that the encoding of standard output does
    not have are escaped as in JSON; bytes of a file name that are no text are `\\xff` in messages,
    and control characters are escaped too.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        codecs.register_error("json", _as_json)
        codecs.register_error("bytes", _as_bytes)
        for stream, handler in ((sys.stdout, "json"), (sys.stderr, "bytes")):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=handler)
        try:
            try:
                return command(*args, **kwargs) or 0
            finally:
                if sys.stdout is not None:  # as it is where it was closed: `>&-`
                    sys.stdout.flush()
        except DataError as error:
            sentence = str(error)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _has_no_reader(sys.stdout):
                return 0
            sentence = said_by_system(error)
        except UnicodeEncodeError as error:
            sentence = (
                f"{error.object!r}: cannot be written in {error.encoding}, the encoding of this "
                f"locale; set PYTHONUTF8=1, or rename the file"
            )
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            return 130
        print(f"error: {escaped(sentence, LAYOUT)}", file=sys.stderr)
        return 1

    return run


def said_by_system(error: OSError, path: str | Path = "") -> str:
    """What the operating system refused, of the file that it names or else of `path`."""
    name = escaped(f"{error.filename or path}")
    if error.errno in FULL:
        where = f"{name}: " if name else ""
        return f"{where}the disk is full ({error.strerror}); make room, and repeat the command"
    where = f"{name}: cannot" if name else "something cannot"
    return f"{where} be read or written ({error.strerror or error})"


def _as_json(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _as_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    one = ord(error.object[error.start])
    return (
        f"\\x{one - 0xDC00:02x}" if 0xDC80 <= one <= 0xDCFF else f"\\u{one:04x}"
    ), error.start + 1


def _has_no_reader(stream: IO[str]) -> bool:
    poll = select.poll()
    try:
        poll.register(stream, 0)
    except OSError:  # no file of the system
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
