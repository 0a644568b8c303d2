"""The static page in Chromium gives what `asr transcribe` gives."""

import functools
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import chromium_hearing, recipe, tones_of

from asr import transcriber
from asr.errors import DataError
from asr.labels.formats import NO_SPEECH, in_format
from asr.transcriber import MODEL, Transcriber

pytest.importorskip("onnx")
build = recipe("browser/build")

FILES = 20
RATE, FRAME_S = 16_000, 0.03
LIMIT_MS = 120_000
TONES = ["aa", "s", "iy", "m", "aa", "iy"]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Decompressing(Handler):
    """A server that says of compressed files how to decompress them, so that the browser does."""

    def end_headers(self) -> None:
        if self.path.endswith(build.COMPRESSED):
            self.send_header("Content-Encoding", "gzip")
        super().end_headers()


def served(folder: Path, by: type[Handler] = Handler) -> Iterator[str]:
    handler = functools.partial(by, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, whose microphone plays tones."""
    with chromium_hearing(tones_of(TONES, 48_000), tmp_path_factory.mktemp("tones")) as browser:
        yield browser


def built(folder: Path, checkpoint: Path) -> Path:
    try:
        build.build(folder, checkpoint, build.HERE, int8=False, overwrite=False)
    except DataError as error:
        if "npm" not in str(error):
            raise
        pytest.skip("needs onnxruntime-web: npm ci --prefix recipes/browser")
    return folder


class Page:
    """A page in the browser, and what went wrong there."""

    def __init__(self, browser: Any, address: str) -> None:
        self.context = browser.new_context(viewport={"width": 1000, "height": 800})
        self.page = self.context.new_page()
        self.page.set_default_timeout(LIMIT_MS)
        self.wrong: list[str] = []
        self.asked: set[str] = set()
        note = self.wrong.append
        self.page.on("console", lambda one: note(one.text) if one.type == "error" else None)
        self.page.on("pageerror", lambda error: note(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(address)
        self.page.evaluate("() => globalThis.viewer.ready")

    def transcribe(self, path: Path) -> dict[str, Any]:
        """The record of a file that is given to the page, or {"error": its sentence}."""
        self.page.evaluate("() => { globalThis.viewer.result = null; }")
        self.page.set_input_files("#file", path)
        self.page.wait_for_function(
            "() => globalThis.viewer.result || !document.getElementById('error').hidden"
        )
        result: dict[str, Any] = self.page.evaluate(
            """() => {
                const error = document.getElementById("error");
                if (!error.hidden) return { error: error.textContent };
                const { posteriors, ...result } = globalThis.viewer.result;
                return { ...result, steps: posteriors?.values.length / posteriors?.phones.length };
            }"""
        )
        return result


@pytest.fixture(scope="module")
def packaged(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of the packaged model."""
    if not MODEL.exists():
        pytest.skip("no model is in the package")
    folder = built(tmp_path_factory.mktemp("page") / "dist", MODEL)
    for address in served(folder):
        yield Page(browser, address)


@pytest.fixture(scope="module")
def tonal(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, tone_model: Path
) -> Iterator[Page]:
    """The page of the small model of tones."""
    folder = built(tmp_path_factory.mktemp("page") / "dist", tone_model)
    for address in served(folder, Decompressing):
        yield Page(browser, address)


def expected(recogniser: Transcriber, path: Path) -> dict[str, Any]:
    """What `asr transcribe --format json` says of a file, but for its folder; and its warnings."""
    warnings: list[str] = []
    transcript = recogniser.transcribe_file(path, warnings.append)
    record: dict[str, Any] = json.loads(in_format(transcript, "json"))
    said = [one.replace(str(path), path.name) for one in warnings]
    return record | {"file": path.name, "warnings": said}


def require_alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same phones; times and confidences but for the last digits of single precision."""
    assert [one["phone"] for one in ours] == [one["phone"] for one in theirs]
    for key, tolerance in (("start_s", FRAME_S), ("end_s", FRAME_S), ("confidence", 2e-3)):
        away = np.abs([one[key] - other[key] for one, other in zip(ours, theirs, strict=True)])
        assert np.all(away <= tolerance + 1e-6)
        assert np.mean(away > 1e-4 + 1e-6) <= 0.02


def test_real_speech_has_the_phones_of_the_program(
    packaged: Page, shared: Path, tmp_path: Path
) -> None:
    some = [
        sorted((shared / "corpora" / name).rglob(f"*.{ending}"))
        for name, ending in (("LibriSpeech/test-part", "flac"), ("timit-sample", "wav"))
    ]
    files = [path for paths in some for path in paths[:: max(1, 2 * len(paths) // FILES)]]
    if len(files) < FILES:
        pytest.skip(f"needs {FILES} recordings in {shared}/corpora")
    rng = np.random.default_rng(0)
    speech, rate = soundfile.read(some[1][4])
    power = np.sqrt(np.square(speech).mean())
    noisy = tmp_path / "noisy.wav"  # so loud that the network runs a second time
    soundfile.write(noisy, 0.5 * (speech + power * rng.standard_normal(len(speech))), rate)
    recogniser = transcriber.load()
    for path in (*files[:FILES], noisy):
        result, record = packaged.transcribe(path), expected(recogniser, path)
        count = recogniser.config.features.frame_count(round(result["duration_s"] * RATE))
        assert result.pop("steps") == -(-count // recogniser.config.encoder.subsampling)
        assert record["phones"]
        require_alike(result.pop("phones"), record.pop("phones"))
        assert result == record
    assert packaged.wrong == []


def test_other_rates_and_channels_are_read_as_the_program_reads_them(
    tonal: Page, tone_model: Path, tmp_path: Path
) -> None:
    recogniser = transcriber.load(tone_model)
    for rate in (8_000, 16_000, 44_100):
        path = tmp_path / f"{rate}.wav"
        samples = tones_of(TONES, rate)
        soundfile.write(path, np.stack([samples, 0.5 * samples], axis=1), rate)
        ours, theirs = tonal.transcribe(path), expected(recogniser, path)
        assert [one["phone"] for one in ours["phones"]] == [
            one["phone"] for one in theirs["phones"]
        ]
        assert ours["warnings"] == theirs["warnings"]
        assert ours["phones"]
    for name in ("my.flac", "my.ogg", "my.mp3"):
        soundfile.write(tmp_path / name, tones_of(TONES), 16_000)
        ours, theirs = tonal.transcribe(tmp_path / name), expected(recogniser, tmp_path / name)
        assert [one["phone"] for one in ours["phones"]] == [
            one["phone"] for one in theirs["phones"]
        ]
        if name == "my.flac":
            require_alike(ours["phones"], theirs["phones"])


def test_a_long_recording_is_heard_to_its_end(
    tonal: Page, tone_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, tones_of(TONES * 120), 16_000)  # 108 s, in pieces
    phones = tonal.transcribe(path)["phones"]
    require_alike(phones, expected(transcriber.load(tone_model), path)["phones"])
    assert phones[-1]["end_s"] > 107


def test_what_is_wrong_with_a_file_is_said(tonal: Page, tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    assert tonal.transcribe(path)["phones"] == []
    assert NO_SPEECH in tonal.page.inner_text("#summary").lower()
    path = tmp_path / "letter.mp3"
    path.write_text("Dear Sir,")
    assert "letter.mp3: not an audio file" in tonal.transcribe(path)["error"]
    soundfile.write(path.with_suffix(".wav"), tones_of(TONES), 16_000)
    assert len(tonal.transcribe(path.with_suffix(".wav"))["phones"]) == len(TONES)


def test_it_works_without_a_network_once_it_is_loaded(tonal: Page, tmp_path: Path) -> None:
    path = tmp_path / "my.wav"
    soundfile.write(path, tones_of(TONES), 16_000)
    host = tonal.page.url
    assert all(url.startswith((host, "blob:", "data:")) for url in tonal.asked)
    tonal.context.set_offline(True)
    tonal.asked.clear()
    assert len(tonal.transcribe(path)["phones"]) == len(TONES)
    tonal.context.set_offline(False)
    assert not {url for url in tonal.asked if url.startswith("http")}
    assert [one for one in tonal.wrong if "letter" not in one] == []


def test_symbols_of_another_alphabet(tonal: Page, tone_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "my.wav"
    soundfile.write(path, tones_of(TONES), 16_000)
    assert tonal.transcribe(path)["phones"]
    tonal.page.evaluate("() => { globalThis.viewer.result = null; }")
    tonal.page.select_option("#symbols", "ipa")
    tonal.page.wait_for_function("() => globalThis.viewer.result")
    symbols = tonal.page.evaluate("() => globalThis.viewer.result.phones.map((one) => one.phone)")
    in_ipa = expected(transcriber.load(tone_model, symbols="ipa"), path)
    assert symbols == [one["phone"] for one in in_ipa["phones"]]
    tonal.page.select_option("#symbols", "")


def test_work_that_is_not_wanted_any_more_is_given_up(tonal: Page) -> None:
    given_up, after = tonal.page.evaluate(
        """async () => {
            const { engine } = globalThis.viewer;
            const sound = (seconds) => ({
                name: "noise",
                warnings: [],
                samples: Float32Array.from({ length: 16000 * seconds }, (_, n) => Math.sin(n * n)),
            });
            const controller = new AbortController();
            const long = engine.transcribe(sound(240), { symbols: null }, controller.signal);
            controller.abort();
            const begin = performance.now();
            const given_up = await long.catch((error) => error.name);
            await engine.transcribe(sound(1), { symbols: null });
            return [given_up, (performance.now() - begin) / 1000];
        }"""
    )
    assert given_up == "AbortError"
    begin = time.perf_counter()
    tonal.page.evaluate(
        """async () => {
            const samples = Float32Array.from({ length: 16000 * 240 }, (_, n) => Math.sin(n * n));
            const sound = { name: "noise", warnings: [], samples };
            await globalThis.viewer.engine.transcribe(sound, { symbols: null });
        }"""
    )
    assert after < (time.perf_counter() - begin) / 2  # one piece of many


def test_the_microphone_is_recorded_and_recognised(tonal: Page) -> None:
    tonal.page.evaluate("() => { globalThis.viewer.result = null; }")
    tonal.page.click("#record")
    tonal.page.wait_for_function(
        "() => parseFloat(document.getElementById('recorded').textContent) > 2"
    )
    tonal.page.click("#record")
    tonal.page.wait_for_function("() => globalThis.viewer.result")
    result = tonal.page.evaluate("() => globalThis.viewer.result")
    assert result["duration_s"] > 2
    assert "resampled from" in result["warnings"][0]
    assert {one["phone"] for one in result["phones"]} == {*TONES}


def test_the_folder_of_something_else_is_left_alone(tone_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    if not (build.HERE / build.RUNTIME).is_dir():
        pytest.skip("needs onnxruntime-web: npm ci --prefix recipes/browser")
    with pytest.raises(DataError, match="files of something else"):
        build.build(folder, tone_model, build.HERE, int8=False, overwrite=True)
    assert [*folder.iterdir()] == [folder / "mine.txt"]
    (folder / "mine.txt").unlink()
    build.build(folder, tone_model, build.HERE, int8=False, overwrite=False)
    with pytest.raises(DataError, match="set --overwrite"):
        build.build(folder, tone_model, build.HERE, int8=False, overwrite=False)
    assert [*tmp_path.iterdir()] == [folder]


def test_packages_are_pinned_by_digests_and_not_by_hosts() -> None:
    wanted = json.loads((build.HERE / "package.json").read_text())["dependencies"]
    lock = json.loads((build.HERE / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in one and "resolved" not in one for one in lock.values())


def test_without_onnxruntime_web_a_sentence_says_how_to_get_it(
    tone_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no onnxruntime-web.*npm ci"):
        build.build(tmp_path / "dist", tone_model, tmp_path, int8=False, overwrite=False)
    assert [*tmp_path.iterdir()] == []
