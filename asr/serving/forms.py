"""A form with a recording → its bytes and the other fields, checked.

An upload is read into memory, at most as much as the limits say, and is gone with its answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from asr.audio import InMemory
from asr.errors import DataError, did_you_mean
from asr.serving.limits import OF_FORM, BusyError, Limits, TooMuchError, Upload, require_size

DRAINED_S = 5.0  # of an upload that is too large, so that its sender reads the answer
LONGEST_NAME = 120  # characters
FORMATS = {"json": "application/json", "textgrid": "text/plain", "text": "text/plain"}

Fields = dict[str, Any]


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise ValueError("a whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("seconds") from None
    if not 0 <= value <= 1e6:
        raise ValueError("seconds, 0 or more")
    return value


def _format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f"one of {', '.join(FORMATS)}")
    return text


# The fields of a form beside `audio`, by the last part of the path.
FIELDS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "waveform": {"channel": _number},
    "transcribe": {
        "words": _flag,
        "symbols": str,
        "channel": _number,
        "posteriors": _flag,
        "format": _format,
    },
    "align": {"text": str, "symbols": str, "channel": _number, "format": _format},
    "assess": {"text": str, "symbols": str, "channel": _number},
    "gates": {
        "layer": _number,
        "direction": str,
        "start_s": _seconds,
        "end_s": _seconds,
        "channel": _number,
    },
}


async def read(
    request: Request, upload: Upload, what: str, limits: Limits
) -> tuple[InMemory, Fields]:
    """The file `audio` and the other fields of a form for `what`, one of FIELDS.

    Raises `TooMuchError` as soon as a limit is passed, `HTTPException` for what is no such form,
    and `DataError` for wrong fields.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise HTTPException(
            415,
            f"content-type is {kind[:80]!r}, expected multipart/form-data with a file `audio`, as "
            f"curl -F audio=@my.wav sends it",
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        require_size(int(length), limits)
    body = _counted(request, upload, limits)
    fields = FIELDS[what]
    parser = MultiPartParser(request.headers, body, max_files=1, max_fields=len(fields))
    parser.spool_max_size = limits.bytes + OF_FORM + 1  # in memory, never on a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {_cause(error)}") from error
    except UnicodeError as error:
        raise HTTPException(400, "the form cannot be read: its text is damaged") from error
    try:
        return await _checked(form, what)
    finally:
        await form.close()


async def _checked(form: FormData, what: str) -> tuple[InMemory, Fields]:
    fields, recording, result = FIELDS[what], None, Fields()
    for name, value in form.multi_items():
        if name == "audio" and isinstance(value, UploadFile):
            recording = InMemory(_shown(value.filename), await value.read())
        elif name == "audio":
            raise DataError("`audio` is a text, expected a file, as curl -F audio=@my.wav")
        elif name in result:
            raise DataError(f"{name} is there twice, expected once")
        elif name not in fields:
            known = ", ".join(["audio", *fields])
            hint = did_you_mean(name, fields)
            raise DataError(f"{name[:40]!r} is no field of {what}{hint} (known: {known})")
        elif isinstance(value, UploadFile):
            raise DataError(f"{name} is a file, expected text")
        else:
            try:
                result[name] = fields[name](value)
            except ValueError as error:
                raise DataError(f"{name} is {value[:40]!r}, expected {error}") from error
    if recording is None:
        raise DataError("no file `audio` in the form, expected one, as curl -F audio=@my.wav")
    if "text" in fields and "text" not in result:
        raise DataError("no field `text`, expected what is said in the recording")
    return recording, result


async def _counted(request: Request, upload: Upload, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body of a request, as far as the limits go."""
    parts = request.stream()
    try:
        while True:
            async with asyncio.timeout(limits.pause_s):
                part = await anext(parts, None)
            if part is None:
                return
            upload.add(len(part))
            yield part
    except TimeoutError:
        raise HTTPException(408, f"nothing came for {limits.pause_s:g} s; send it again") from None
    except (TooMuchError, BusyError):
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_S):
                async for _ in parts:
                    pass
        raise


def _cause(error: MultiPartException) -> str:
    """What python-multipart says, where starlette says only that it complained."""
    cause = f"{error.__cause__ or error.message}".rstrip(".")
    if "header size" in cause.lower():
        return f"a file name, or another header of a part, is too long ({cause}); rename the file"
    return cause


def _shown(name: str | None) -> str:
    """The last part of a name, without what is no text; "recording" where nothing is left."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable()).strip()[-LONGEST_NAME:] or "recording"
