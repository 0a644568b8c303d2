"""`asr serve` over HTTP: what it says, what it refuses, and what it keeps to itself."""

import base64
import io
import json
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fuzz
import httpx
import numpy as np
import pytest
import soundfile
import uvicorn
from light import TEXT, spoken

import asr
from asr import audio, transcriber
from asr.audio import InMemory
from asr.commands import serve
from asr.errors import DataError
from asr.files.shards import Member
from asr.labels.formats import in_format
from asr.serving import app as app_module
from asr.serving import forms
from asr.serving.app import PAGE, app_of
from asr.serving.guard import OWN_NAMES
from asr.serving.limits import SHARE, Limits
from asr.serving.speech import Speech

RATE = 16_000
LIMITS = Limits(seconds=60, bytes=4_000_000, waiting=8, pause_s=5)
DOCUMENT = json.loads(app_module.OPENAPI.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoken(tmp_path_factory.mktemp("spoken") / "sentence.wav")


@pytest.fixture(scope="module")
def speech() -> Speech:
    return Speech(LIMITS)


@contextmanager
def served(speech: Speech, limits: Limits = LIMITS, names: Any = OWN_NAMES) -> Iterator[Any]:
    """A client of a server that runs in a thread."""
    with ThreadPoolExecutor(1) as pool, socket.create_server(("127.0.0.1", 0)) as listening:
        app = app_of(speech, pool, limits, names)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", server_header=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        port = listening.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(speech: Speech) -> Iterator[Any]:
    with served(speech) as client:
        yield client


def ask(client: Any, what: str, content: bytes | Path, name: str = "a.wav", **fields: Any) -> Any:
    """The answer to a form with a recording."""
    content = content.read_bytes() if isinstance(content, Path) else content
    return client.post(f"/api/{what}", files={"audio": (name, content)}, data=fields)


def wav(
    samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=format)
    return file.getvalue()


# ── what it says ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("symbols", [None, "ipa"])
def test_a_transcript_is_that_of_the_command(
    client: Any, sentence: Path, words: bool, symbols: str | None
) -> None:
    oracle = asr.load(words=words or None, symbols=symbols)
    expected = oracle.transcribe_file(sentence, pytest.fail)
    chosen = {"symbols": symbols} if symbols else {}
    answer = ask(client, "transcribe", sentence, words=words, **chosen)
    assert answer.status_code == 200
    record = answer.json()
    assert record.pop("warnings") == []
    assert record | {"file": ""} == json.loads(in_format(expected, "json")) | {"file": ""}
    written = ask(client, "transcribe", sentence, words=words, format="textgrid", **chosen)
    assert written.text == in_format(expected, "textgrid")
    assert written.headers["content-type"].startswith("text/plain")


def test_posteriors_are_those_of_the_network(client: Any, sentence: Path) -> None:
    oracle = asr.load()
    (piece,) = transcriber.pieces(oracle.blocks(sentence), oracle.step, oracle.sample_rate)
    emissions, _, own = oracle.emissions(piece)
    record = ask(client, "transcribe", sentence, posteriors=True).json()["posteriors"]
    values = np.frombuffer(base64.b64decode(record["values"]), np.uint8)
    values = values.reshape(-1, len(record["phones"]))
    np.testing.assert_array_equal(values, np.rint(255 * np.exp(emissions[own])))
    assert record["phones"][1:] == list(oracle.network.vocabulary.phones)
    assert (record["step_s"], record["start_s"]) == (0.03, oracle.config.time_s(0))


def test_text_is_aligned_and_assessed_as_by_the_library(client: Any, sentence: Path) -> None:
    aligned = ask(client, "align", sentence, text=TEXT).json()
    expected = asr.align(sentence, TEXT)
    assert not isinstance(expected, tuple)
    assert aligned["phones"] == [one._asdict() for one in expected.phones]
    assert [one["word"] for one in aligned["words"]] == TEXT.split()
    assessed = ask(client, "assess", sentence, text=TEXT, symbols="ipa").json()
    oracle = json.loads(json.dumps(asdict(asr.assess(sentence, TEXT, symbols="ipa"))))
    assert assessed["words"] == oracle["words"]
    assert assessed["score"] == oracle["score"]


def test_the_waveform_is_what_the_recogniser_hears(client: Any, sentence: Path) -> None:
    mono, _ = soundfile.read(sentence, dtype="float32")
    both = wav(np.stack([mono, 0.5 * mono], axis=1), 44_100)
    answer = ask(client, "waveform", both, channel=2)
    heard, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    source = InMemory("a", both)
    expected = np.concatenate(list(audio.stream(source, RATE, 400, lambda _: None, 2)))
    assert rate == RATE
    np.testing.assert_allclose(heard, expected, atol=1 / 32_000)
    silent = ask(client, "waveform", wav(np.zeros(RATE)))
    assert len(soundfile.read(io.BytesIO(silent.content))[0]) == RATE


def test_warnings_and_silence_are_said(client: Any) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((44_100, 2))
    record = ask(client, "transcribe", wav(noise, 44_100), "my noise.wav").json()
    assert record["warnings"][0].startswith(
        "my noise.wav: 2 channels mixed into one, resampled from 44100 Hz"
    )
    silent = ask(client, "transcribe", wav(np.zeros(RATE)), words=True).json()
    assert (silent["phones"], silent["words"], silent["duration_s"]) == ([], [], 1.0)
    assert [one.split(": ", 1)[1].split(",")[0] for one in silent["warnings"]] == [
        "silent",
        "no speech found",
    ]


def test_gates_are_those_of_the_whole_recording_in_any_part(client: Any, sentence: Path) -> None:
    once, _ = soundfile.read(sentence, dtype="float32")
    content = wav(np.tile(once, 1 + int(50 * RATE / len(once))))  # several pieces

    def gates_of(**fields: Any) -> tuple[float, np.ndarray]:
        record = ask(client, "gates", content, layer=2, direction="backwards", **fields).json()
        forget = np.frombuffer(base64.b64decode(record["gates"]["forget"]), np.uint8)
        return record["start_s"], forget.reshape(-1, record["hidden"])

    start_s, whole = gates_of()
    assert len(whole) == -(-len(content) // 2 // 480) - 1
    part_s, part = gates_of(start_s=30, end_s=45)
    first = round((part_s - start_s) / 0.03)
    assert (first, len(part)) == (1000, 500)
    np.testing.assert_array_equal(part, whole[first : first + 500])
    assert part.std() > 20


def test_what_the_server_says_of_itself(client: Any) -> None:
    about = client.get("/api/model").json()
    assert about["limits"] == {"seconds": 60, "bytes": 4_000_000, "text": LIMITS.text}
    assert about["model"]["layers"] == 3
    assert all(about["can"].values())


# ── what it refuses ──────────────────────────────────────────────────────────────────────────

SPEECH = wav(0.1 * np.random.default_rng(0).standard_normal(RATE))


@pytest.mark.parametrize(
    ("what", "content", "fields", "status", "part"),
    [
        ("transcribe", b"not a sound", {}, 415, "my.wav: not a readable audio file but a text"),
        ("transcribe", b"", {}, 415, "my.wav: not a readable audio file, it holds 0 bytes"),
        ("transcribe", SPEECH[:9000], {}, 415, "my.wav: truncated"),
        ("waveform", b"\0" * 5000, {}, 415, "my.wav: not a readable audio file"),
        ("transcribe", wav(np.ones(100) / 2), {}, 422, "my.wav: 100 samples, expected at least"),
        ("transcribe", wav(np.zeros(61 * RATE + RATE), 8_000), {}, 413, "124 s, expected at most"),
        ("transcribe", SPEECH, {"channel": 3}, 422, "no channel 3, expected 1"),
        ("transcribe", SPEECH, {"words": "maybe"}, 422, "words is 'maybe', expected true or false"),
        ("transcribe", SPEECH, {"wrods": "true"}, 422, "did you mean 'words'?"),
        ("transcribe", SPEECH, {"symbols": "klingon"}, 422, "known are arpabet"),
        ("transcribe", SPEECH, {"format": "xml"}, 422, "one of json, textgrid, text"),
        ("align", SPEECH, {}, 422, "no field `text`"),
        ("align", SPEECH, {"text": "  "}, 422, "the text has no words"),
        ("align", SPEECH, {"text": "word " * 5000}, 413, "25000 characters, expected at most"),
        ("align", SPEECH, {"text": TEXT * 3}, 422, "is this the text"),
        ("assess", SPEECH, {"text": "漢字"}, 422, "漢字"),
        ("gates", SPEECH, {"layer": 4}, 422, "layer is 4, expected 1 to 3"),
        ("gates", SPEECH, {"direction": "up"}, 422, "expected forwards or backwards"),
        ("gates", SPEECH, {"start_s": 5, "end_s": 4}, 422, "at most 60 s"),
        ("gates", SPEECH, {"start_s": "nan"}, 422, "expected seconds"),
    ],
)
def test_wrong_input_has_one_sentence(
    client: Any, what: str, content: bytes, fields: dict[str, Any], status: int, part: str
) -> None:
    answer = ask(client, what, content, "my.wav", **fields)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert part in answer.json()["error"]


def test_a_form_is_needed(client: Any) -> None:
    form = "multipart/form-data; boundary=x"
    for headers, content, status in (
        ({"content-type": "audio/wav"}, SPEECH, 415),
        ({"content-type": "multipart/form-data"}, b"", 400),
        ({"content-type": form}, b"--y\r\n", 400),
        ({"content-type": form}, b"--x--\r\n", 422),
        ({"content-type": form}, b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--", 400),
        (
            {"content-type": f"{form}; charset=idna"},
            b'--x\r\nContent-Disposition: form-data; name="\xff.."\r\n\r\na\xff\r\n--x--',
            (400, 422),
        ),
    ):
        answer = client.post("/api/transcribe", content=content, headers=headers)
        assert answer.status_code in (status if isinstance(status, tuple) else (status,))
        assert answer.json()["error"]
    answer = ask(client, "waveform", SPEECH, "x" * 5_000)
    assert answer.status_code == 400
    assert "name" in answer.json()["error"]
    assert "too long" in answer.json()["error"]
    as_text = client.post("/api/transcribe", data={"audio": "x"}, files={"words": b"true"})
    assert as_text.status_code == 422
    assert client.get("/api/transcribe").status_code == 405
    assert client.get("/nothing").json() == {"error": "Not Found"}


def test_an_hour_is_refused_with_the_numbers(client: Any) -> None:
    hour = wav(np.zeros(3600 * 8000, np.int16), 8000, "FLAC")
    assert len(hour) < LIMITS.bytes
    answer = ask(client, "transcribe", hour, "hour.flac")
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("hour.flac: 3600 s, expected at most 60 s")


def test_a_header_that_says_too_little_is_counted(client: Any) -> None:
    content = bytearray(wav(0.1 * np.random.default_rng(0).standard_normal(90 * RATE)))
    content[40:44] = b"\xff\xff\xff\xff"  # the length of a stream
    answer = ask(client, "waveform", bytes(content))
    assert answer.status_code == 413


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_large_upload_is_refused_while_it_comes(
    speech: Speech, sentence: Path, is_announced: bool
) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'

    def parts() -> Iterator[bytes]:
        yield head
        for _ in range(200):
            yield bytes(100_000)

    with served(speech) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        if is_announced:
            headers["content-length"] = str(len(head) + 20_000_000)
        answer = client.post("/api/transcribe", content=parts(), headers=headers)
        assert answer.status_code == 413
        assert "more than 4 MB" in answer.json()["error"]
        assert ask(client, "transcribe", sentence).status_code == 200


def test_too_many_at_once_are_told_to_come_back(speech: Speech, sentence: Path) -> None:
    go_on = threading.Event()

    class Slow(Speech):
        def __init__(self) -> None:
            self.__dict__.update(vars(speech))

        def waveform(self, recording: InMemory, channel: int | None = None) -> bytes:
            assert go_on.wait(20)
            return b""

    limits = Limits(waiting=3, bytes=1_000_000)
    with ThreadPoolExecutor(8) as askers, served(Slow(), limits) as client:
        asked = [askers.submit(ask, client, "waveform", sentence) for _ in range(4)]
        (first,), waiting = wait(asked, 30, FIRST_COMPLETED)
        answer = first.result()
        assert answer.status_code == 503
        assert answer.headers["retry-after"].isdecimal()
        assert "waiting already" in answer.json()["error"]
        assert client.get("/api/model").status_code == 200
        go_on.set()
        assert {one.result().status_code for one in waiting} == {200}
        assert ask(client, "waveform", sentence).status_code == 200


@pytest.mark.parametrize("what", ["transcribe", "align", "assess"])
def test_no_piece_is_computed_for_a_client_that_has_left(
    speech: Speech, sentence: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, rate = soundfile.read(sentence, dtype="float32")
    long = wav(np.tile(samples, 20)[: 59 * rate], rate, "FLAC")
    network = (speech.phones if what == "transcribe" else speech.aligner).network
    begun, calls, emissions = threading.Event(), [0], network.emissions

    def slow(*arguments: Any) -> np.ndarray:
        calls[0] += 1
        begun.set()
        assert speech.left.wait(20)
        return emissions(*arguments)

    with served(speech) as client:
        fields = {} if what == "transcribe" else {"text": f"{TEXT} " * 20}
        form = {"files": {"audio": ("a.flac", long)}, "data": fields}
        request = client.build_request("POST", f"/api/{what}", **form)
        head = "".join(f"{key}: {value}\r\n" for key, value in request.headers.items())
        monkeypatch.setattr(network, "emissions", slow)
        with socket.create_connection((request.url.host, request.url.port)) as connection:
            connection.sendall(f"POST /api/{what} HTTP/1.1\r\n{head}\r\n".encode())
            connection.sendall(request.read())
            assert begun.wait(60)
        assert client.get("/api/model").status_code == 200
        monkeypatch.undo()
        assert ask(client, "waveform", sentence).status_code == 200
    assert calls == [1]


def test_uploads_share_the_memory() -> None:
    limits = Limits(bytes=1_000_000, waiting=100)
    admission = app_module.Admission(limits)
    with admission.admitted() as first:
        first.add(1_000_000)
        with admission.admitted() as second:
            admission.held += (SHARE - 1) * 1_000_000
            second.add(100_000)
            with pytest.raises(DataError, match="fill the memory"):
                second.add(900_000)
        admission.held -= (SHARE - 1) * 1_000_000
    assert (admission.requests, admission.held) == (0, 0)


# ── what it keeps to itself ──────────────────────────────────────────────────────────────────

OPENED: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    looks = event in ("open", "os.listdir", "os.scandir", "tempfile.mkstemp")
    if OPENED is not None and looks and not isinstance(arguments[0], int):  # a file in memory
        OPENED.append(str(arguments[0]))


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../secret.wav", "-", "x.tar#0:4:00000000/y.wav", "a\0b.wav", "‮.wav", ""],
)
def test_no_path_of_a_request_reaches_the_file_system(
    client: Any, sentence: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.addaudithook(_audit)
    ask(client, "align", sentence, text=TEXT)  # lexica are read once
    contents = {"transcribe": sentence.read_bytes(), "align": b"no audio"}
    opened: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "OPENED", opened)
    for what, content in contents.items():
        fields = {"text": f"{TEXT} /etc/passwd"} if what == "align" else {}
        answer = ask(client, what, content, name or "x", **fields)
        assert answer.status_code in (200, 400, 415, 422)
    monkeypatch.setattr(sys.modules[__name__], "OPENED", None)
    assert opened == []
    for path in ("/../pyproject.toml", "/vendor/../../app.py", "/%2e%2e/app.py", "//etc/passwd"):
        assert client.get(path).status_code == 404


def test_only_this_machine_and_its_own_page_may_ask(client: Any, speech: Speech) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[", "0.0.0.0:8000"):
        answer = client.get("/", headers={"host": host})
        assert (answer.status_code, set(answer.json())) == (403, {"error"}), host
    for host in ("localhost:8000", "127.0.0.1", "[::1]:99", "LOCALHOST"):
        assert client.get("/", headers={"host": host}).status_code == 200, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1.x"):
        answer = client.post("/api/transcribe", headers={"origin": origin})
        assert answer.status_code == 403, origin
    own = str(client.base_url).rstrip("/")
    assert client.post("/api/transcribe", headers={"origin": own}).status_code == 415
    with served(speech, names=None) as open_to_others:
        answer = open_to_others.get("/", headers={"host": "any.example"})
        assert answer.status_code == 200


def test_every_answer_is_closed_to_other_sites(client: Any) -> None:
    for answer in (
        client.get("/"),
        client.get("/nothing"),
        client.get("/viewer.js"),
        client.get("/api/model"),
        client.get("/", headers={"host": "x"}),
        client.post("/api/align"),
    ):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
        assert "server" not in answer.headers


def test_the_page_has_one_nonce_and_nothing_from_elsewhere(client: Any) -> None:
    first, second = client.get("/"), client.get("/")
    nonces = [re.findall(r'name="csp-nonce" content="(.+?)"', one.text) for one in (first, second)]
    assert nonces[0] != nonces[1]
    assert f"'nonce-{nonces[0][0]}'" in first.headers["content-security-policy"]
    named = set(re.findall(r'(?:src|href)="([^"]+)"', first.text))
    for path in PAGE.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        place = path.relative_to(PAGE).parent
        if place == Path():
            named |= set(re.findall(r'from "\./([^"]+)"', text))
        assert not re.search(r'(fetch|import|URL)\s*\(?\s*["\'`]https?:', text), path
    for name in named:
        assert client.get(f"/{name}").status_code == 200, name


# ── damage ───────────────────────────────────────────────────────────────────────────────────


def damaged(number: int) -> tuple[str, bytes]:
    """Audio of some kind, changed at random."""
    rng = random.Random(f"serve {number}")
    kind = sorted(fuzz.AUDIO)[number % len(fuzz.AUDIO)]
    data = fuzz.AUDIO[kind]
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(fuzz.BINARY)(rng, data)
    return f"x.{kind}", data


def test_damaged_uploads_are_answered(client: Any) -> None:
    for number in range(60):
        name, data = damaged(number)
        what = ("transcribe", "waveform", "gates", "align", "assess")[number % 5]
        fields = {"text": TEXT} if what in ("align", "assess") else {}
        answer = ask(client, what, data, name, **fields)
        assert answer.status_code in (200, 413, 415, 422), (number, answer.text)


def test_audio_in_memory_and_in_a_shard_is_that_of_the_file(tmp_path: Path) -> None:
    def outcome(source: Path | InMemory) -> tuple[list[bytes], list[str], str]:
        said: list[str] = []
        blocks: list[bytes] = []
        try:
            for block in audio.stream(source, RATE, 400, said.append):
                blocks.append(block.tobytes())
        except DataError as error:
            return blocks, said, f"{error}"
        return blocks, said, ""

    for number in range(-len(fuzz.AUDIO), 200):
        name, data = damaged(number) if number >= 0 else list(fuzz.AUDIO.items())[number]
        path = tmp_path / name
        path.write_bytes(data)
        of_file, in_memory = outcome(path), outcome(InMemory(str(path), data))
        # libsndfile also guesses by the name of a file, and sees none here
        is_guessed = "not a readable audio file" in in_memory[2] and name in ("x.mp3", "x.au")
        assert of_file == in_memory or is_guessed, number
        shard = tmp_path / "shard.tar"
        shard.write_bytes(data)
        member = Member(str(shard), 0, len(data), zlib.crc32(data), name)
        blocks, said, error = outcome(str(member))
        quoted = error.replace(shlex.quote(str(member)), str(path))
        said = [one.replace(str(member), str(path)) for one in said]
        assert (blocks, said, quoted.replace(str(member), str(path))) == in_memory, number


# ── its document ─────────────────────────────────────────────────────────────────────────────


def fits(value: Any, schema: dict[str, Any], place: str = "") -> None:
    """Assert that a value is what a schema of the document says."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    python = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    python |= {"integer": int, "number": (int, float)}
    assert any(isinstance(value, python[kind]) for kind in kinds), (place, value)
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), (
            place,
            set(value),
        )
        for name, one in value.items():
            fits(one, schema["properties"][name], f"{place}.{name}")
    for number, one in enumerate(value if isinstance(value, list) else ()):
        fits(one, schema["items"], f"{place}[{number}]")


def test_the_document_says_what_is_answered(client: Any, sentence: Path) -> None:
    served = client.get("/openapi.json").json()
    assert served["paths"] == DOCUMENT["paths"]
    assert set(served["paths"]) == {"/api/model", *(f"/api/{what}" for what in forms.FIELDS)}
    fits(client.get("/api/model").json(), {"$ref": "About"})
    fields = {"text": TEXT, "words": True, "posteriors": True}
    for what, known in forms.FIELDS.items():
        (content,) = served["paths"][f"/api/{what}"]["post"]["requestBody"]["content"].values()
        assert set(content["schema"]["properties"]) == {"audio", *known}
        own = {name: value for name, value in fields.items() if name in known}
        answer = ask(client, what, sentence, **own)
        answers = served["paths"][f"/api/{what}"]["post"]["responses"]["200"]["content"]
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in answers
        if kind == "application/json":
            fits(answer.json(), answers[kind]["schema"])
        refused = ask(client, what, b"x" * 100, **own)
        assert str(refused.status_code) in served["paths"][f"/api/{what}"]["post"]["responses"]
        fits(refused.json(), {"$ref": "Error"})


# ── the command ──────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--port", str(port)]) == 1
    assert f"port {port}: Address already in use" in capsys.readouterr().err
    assert serve.main(["--port", "0", "--checkpoint", "/nowhere.safetensors"]) == 1
    assert "/nowhere.safetensors" in capsys.readouterr().err
    for wrong in (["--port", "70000"], ["--longest-s", "0"], ["--largest-mb", "x"]):
        with pytest.raises(SystemExit) as ended:
            serve.main(wrong)
        assert ended.value.code == 2
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert serve.main(["--port", "0"]) == 1
    assert "pip install 'asr-phones[serve]'" in capsys.readouterr().err


def test_it_prints_its_address_and_ends_quietly(sentence: Path) -> None:
    command = [sys.executable, "-m", "asr", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        address = run.stdout.readline().split()[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)

        def one(_: int) -> int:
            with sentence.open("rb") as file:
                answer = httpx.post(f"{address}api/transcribe", files={"audio": file}, timeout=60)
            return int(answer.status_code)

        with ThreadPoolExecutor(20) as askers:
            assert set(askers.map(one, range(20))) == {200}
        run.send_signal(signal.SIGINT)
        printed, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert printed == ""
    assert not [line for line in said.splitlines() if not line.startswith("first use:")]
