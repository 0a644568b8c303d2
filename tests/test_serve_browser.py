"""The page of `asr serve` in headless Chromium: what a person does, hears and sees."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from conftest import chromium_hearing
from light import TEXT, spoken

from asr.labels import textgrid
from asr.records import Segment

LIMIT_S = 90.0  # of audio
CONTRASTS = Path(__file__).with_name("page") / "contrasts.js"


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoken(tmp_path_factory.mktemp("spoken") / "sentence.wav")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a server that runs as its own program."""
    flags = ["--port", "0", "--longest-s", str(LIMIT_S), "--largest-mb", "20"]
    command = [sys.executable, "-m", "asr", "serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        yield run.stdout.readline().split()[0]
        run.terminate()


@pytest.fixture(scope="module")
def chromium(sentence: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser whose microphone plays the sentence."""
    samples, rate = soundfile.read(sentence, dtype="float32")
    heard = soxr.resample(samples, rate, 48_000)
    with chromium_hearing(heard, tmp_path_factory.mktemp("sentence")) as browser:
        yield browser


class Page:
    """A page of the server, which must not complain, nor ask any other machine."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        self.page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.until("viewer.engine.can")
        self.address = address

    def _hear(self, said: Any) -> None:
        if not said.text.startswith("Canvas2D:"):  # of the pixels that tests read
            self.complaints.append(said.text)

    def until(self, what: str, limit_s: float = 60) -> Any:
        """The value of an expression as soon as it is true; the policy forbids waiting inside."""
        end = time.monotonic() + limit_s
        while not (value := self.page.evaluate(f"() => ({what}) || null")):
            assert time.monotonic() < end, f"{what}; error: {self.page.inner_text('#error')!r}"
            time.sleep(0.02)
        return value

    def open(self, recording: Path) -> dict[str, Any]:
        """The result of a file that is chosen."""
        self.page.evaluate("viewer.result = null")
        self.page.set_input_files("#file", recording)
        self.until("viewer.result")
        self.until("!document.body.hasAttribute('aria-busy')")
        result: dict[str, Any] = self.page.evaluate(
            "(({posteriors, ...rest}) => rest)(viewer.result)"
        )
        return result

    def texts(self, selector: str) -> list[str]:
        return [str(one) for one in self.page.locator(selector).all_inner_texts()]

    def close(self) -> None:
        assert self.complaints == []
        assert {url.partition("/api")[0] for url in self.asked if url[:5] != "blob:"}
        assert all(url.startswith((self.address, "blob:", "data:")) for url in self.asked)
        self.context.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Page]:
    page = Page(chromium, address)
    yield page
    page.close()


PHONES, WORDS = ".row-of-phones button", ".row-of-words button"


def test_a_file_is_drawn_and_its_phones_are_those_of_the_server(page: Page, sentence: Path) -> None:
    result = page.open(sentence)
    with sentence.open("rb") as file:
        form = {"files": {"audio": ("sentence.wav", file)}, "data": {"words": "true"}}
        expected = httpx.post(f"{page.address}api/transcribe", timeout=60, **form).json()
    assert result == expected
    page.page.click("#fit")
    phones = page.page.locator(PHONES)
    labels = [one.get_attribute("aria-label") for one in phones.all()]
    assert [label.partition(",")[0] for label in labels] == [p["phone"] for p in result["phones"]]
    assert len(page.page.locator(WORDS).all()) == len(result["words"])
    strengths = [
        float(one.evaluate("one => one.style.getPropertyValue('--strength')"))
        for one in phones.all()
    ]
    confidences = [one["confidence"] for one in result["phones"]]
    np.testing.assert_allclose(strengths, confidences, atol=1e-3)
    first = result["phones"][0]
    box, track = phones.first.bounding_box(), page.page.locator("#tracks").bounding_box()
    scale = track["width"] / result["duration_s"]
    assert box["x"] - track["x"] == pytest.approx(first["start_s"] * scale, abs=2)
    assert page.page.inner_text("#summary .phones").split() == [
        p["phone"] for p in result["phones"]
    ]
    assert page.page.locator("#name").inner_text().startswith("sentence.wav, ")
    for canvas in ("#wave canvas", ".map canvas"):
        assert page.page.locator(canvas).first.evaluate(IS_DRAWN), canvas


IS_DRAWN = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(data).size > 3;
}"""


@pytest.mark.parametrize("seconds", [8, 70])
def test_the_spectrogram_lies_under_the_wave_at_every_scale(
    page: Page, tmp_path: Path, seconds: int
) -> None:
    noise = np.random.default_rng(0).standard_normal(seconds * 16_000)
    noise[: 2 * 16_000] *= np.where(np.arange(2 * 16_000) // 800 == 20, 2000, 1)  # at 1.025 s
    soundfile.write(tmp_path / "click.wav", 1e-4 * noise, 16_000)
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.open(tmp_path / "click.wav")
    for zoom in (0, 60, 0, 20):
        page.page.locator("#zoom").fill(str(zoom))
        page.page.evaluate("document.getElementById('tracks').scrollLeft = 0")  # only this is drawn
        time.sleep(1.5)  # what was drawn for the scale before goes
        end = time.monotonic() + 15
        while (dark := page.page.evaluate(DARKEST)) < 0 and time.monotonic() < end:
            time.sleep(0.2)  # a busy machine has drawn nothing yet
        scale = page.until("viewer.scale")
        assert dark == pytest.approx(1.025 * scale, abs=max(6, 0.04 * scale)), (zoom, dark, scale)


# Pixels from the left edge of the recording to the column of the spectrogram with the most ink.
DARKEST = """() => {
  const canvases = [...viewer.wave.getWrapper().querySelectorAll("canvas")]
    .filter((one) => one.offsetHeight === 150);
  let best = [-1, -1];
  for (const canvas of canvases) {
    const {width, height} = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    const ground = data.slice(0, 3);
    const factor = canvas.getBoundingClientRect().width / width;
    const left = canvas.getBoundingClientRect().left -
      viewer.wave.getWrapper().getBoundingClientRect().left;
    for (let x = 0; x < width; x++) {
      let ink = 0;
      for (let y = 0; y < height; y++) ink += 255 - data[4 * (y * width + x)];
      if (ink > best[0]) best = [ink, left + (x + 0.5) * factor];
    }
  }
  return best[1];
}"""


def test_a_phone_is_heard_and_its_sound_ends_with_it(page: Page, sentence: Path) -> None:
    result = page.open(sentence)
    longest = max(result["words"], key=lambda one: one["end_s"] - one["start_s"])
    page.page.click("#fit")
    page.page.evaluate(
        """() => {
          viewer.heard = [];
          viewer.wave.on("audioprocess", (time_s) => viewer.heard.push(time_s));
        }"""
    )
    page.page.click(f".row-of-words button[aria-label^='{longest['word']},']")
    page.until("viewer.heard.length && !viewer.wave.isPlaying()", 10)
    heard = page.page.evaluate("viewer.heard")
    assert len(set(heard)) > 2, "time does not advance"
    assert sorted(heard) == heard
    assert heard[0] >= longest["start_s"] - 0.01
    assert heard[-1] <= longest["end_s"] + 0.1  # a picture's length behind the sound
    stopped = page.page.evaluate("viewer.wave.getCurrentTime()")
    assert stopped == pytest.approx(longest["end_s"], abs=0.03)
    assert f"{longest['word']}, {longest['start_s']:.2f} to" in page.page.inner_text("#about")


def test_keys_move_play_and_keep_the_focus_seen(page: Page, sentence: Path) -> None:
    result = page.open(sentence)
    phones = [one["phone"] for one in result["phones"]]
    keyboard = page.page.keyboard
    tabs = page.page.locator("#tracks button[tabindex='0']")
    assert len(tabs.all()) == 2  # one of each row
    focused = "document.activeElement.getAttribute('aria-label')"
    page.page.locator(f"{PHONES}[tabindex='0']").focus()
    for key, place in (
        *(("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)),
        *(("End", len(phones) - 1), ("ArrowRight", len(phones) - 1), ("Home", 0)),
    ):
        keyboard.press(key)
        assert page.page.evaluate(focused).startswith(f"{phones[place]}, "), key
        inside = page.page.evaluate(
            """() => { const one = document.activeElement.getBoundingClientRect();
            return one.left >= -1 && one.right <= innerWidth + 1; }"""
        )
        assert inside, key
    keyboard.press("ArrowUp")
    assert page.page.evaluate(focused).startswith(f"{result['words'][0]['word']}, ")
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    keyboard.press("ArrowDown")
    page.page.evaluate("() => { viewer.plays = 0; viewer.wave.on('play', () => viewer.plays++); }")
    for plays, key in enumerate(("Enter", " ", "p"), start=1):
        keyboard.press(key)
        page.until(f"viewer.plays === {plays}", 10)
        if key != "p":
            page.until("!viewer.wave.isPlaying()", 10)
    keyboard.press("p")
    page.until("!viewer.wave.isPlaying()", 10)
    for control in page.page.locator("button, select, textarea, input, a").all():
        name = control.evaluate(
            "one => one.getAttribute('aria-label') || (one.labels?.[0] ?? one).textContent.trim()"
        )
        assert name, control.evaluate("one => one.outerHTML")


def test_typed_text_is_placed_and_scored(page: Page, sentence: Path) -> None:
    page.page.fill("#text", TEXT)
    page.open(sentence)
    page.until("viewer.assessment")
    page.page.click("#fit")
    rows = page.page.locator(".row-of-words .lane").all()
    assert rows[1].locator("button span").all_inner_texts() == TEXT.split()
    scored = page.page.locator(".row-of-phones").nth(1).locator("button").all()
    labels = [one.get_attribute("aria-label") for one in scored]
    assert all(" score " in label for label in labels)
    assessed = page.page.evaluate("viewer.assessment")
    marked = [p for w in assessed["words"] for p in w["phones"] if p["score"] < 50]
    is_marked = ["marked" in (one.get_attribute("class") or "") for one in scored]
    assert sum(is_marked) == len(marked)
    assert f"score {round(assessed['score'])}," in page.page.inner_text("#summary .scores")
    page.page.fill("#text", "")
    assert page.page.locator("#align").is_disabled()


def test_files_are_those_of_the_library(page: Page, sentence: Path, tmp_path: Path) -> None:
    result = page.open(sentence)
    files = {}
    for text in ("TextGrid", "JSON"):
        with page.page.expect_download() as waiting:
            page.page.click(f"#downloads >> text={text}")
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        files[path.name] = path.read_text(encoding="utf-8")
    assert set(files) == {"sentence.TextGrid", "sentence.json"}
    assert json.loads(files["sentence.json"]) == {
        name: value for name, value in result.items() if name != "warnings"
    }
    with sentence.open("rb") as file:
        form = {"files": {"audio": file}, "data": {"words": "true", "format": "textgrid"}}
        expected = httpx.post(f"{page.address}api/transcribe", timeout=60, **form).text
    assert files["sentence.TextGrid"] == expected
    odd = [Segment('a"b', 0.1, 0.25, 0.5), Segment("é", 1.0, 2.0, 0.5)]
    ours = page.page.evaluate(
        """async (odd) => (await import("/textgrid.js")).textGrid({"x y": odd, none: []}, 2.5)""",
        [[one.start_s, one.end_s, one.phone] for one in odd],
    )
    assert ours == textgrid.text_of({"x y": odd, "none": []}, 2.5)


def test_the_microphone_is_recorded_and_recognised(page: Page) -> None:
    page.page.click("#record")
    page.until("document.getElementById('recorded').textContent !== '0.0 s'")
    assert page.page.locator("#record").get_attribute("aria-pressed") == "true"
    time.sleep(3.5)
    level = page.page.evaluate("document.querySelector('meter').value")
    page.page.click("#record")
    result = page.until("viewer.result")
    assert 3 < result["duration_s"] < 12
    assert len(result["phones"]) > 10
    said = {one["word"] for one in result["words"]}
    assert len(said & set(TEXT.split())) >= 3, said
    assert 0 < level <= 1
    assert page.page.locator("#name").inner_text().startswith("recording ")


def test_gates_of_the_chosen_layer_are_drawn(page: Page, sentence: Path) -> None:
    page.open(sentence)
    page.page.click("#gates summary")
    page.until("viewer.gates")
    assert page.texts("#gate option") == ["input", "forget", "output"]
    assert page.texts("#layer option") == ["3", "2", "1"]
    page.page.select_option("#layer", "1")
    page.page.select_option("#direction", "backwards")
    page.until("viewer.gates?.layer === 1 && viewer.gates.direction === 'backwards'")
    page.page.select_option("#gate", "output")
    caption = "Output gate of layer 1 backwards"
    assert page.page.locator(".map .caption").last.inner_text() == caption
    mean = page.page.evaluate(
        "viewer.gates.gates.output.reduce((a, b) => a + b) / viewer.gates.gates.output.length / 255"
    )
    assert f"{round(100 * mean)} % open" in page.page.inner_text("#gates-about")
    assert page.page.locator(".map canvas").last.evaluate(IS_DRAWN)


def test_what_is_no_audio_has_its_sentence_and_leaves_the_page_usable(
    page: Page, sentence: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.wav").write_text("not a sound at all")
    page.page.set_input_files("#file", tmp_path / "notes.wav")
    page.until("!document.getElementById('error').hidden")
    said = page.page.inner_text("#error")
    assert said.startswith("notes.wav: not a readable audio file but a text")
    assert page.page.locator("#error").get_attribute("role") == "alert"
    page.complaints.clear()  # Chromium's own line about the status 415
    page.open(sentence)
    assert page.page.locator("#error").is_hidden()
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    assert page.open(tmp_path / "silence.wav")["phones"] == []
    assert page.page.inner_text("#summary") == "no speech found"


def test_an_hour_is_refused_with_the_numbers(page: Page, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hour.flac", np.zeros(3600 * 8000, np.int16), 8000)
    page.page.set_input_files("#file", tmp_path / "hour.flac")
    page.until("!document.getElementById('error').hidden")
    assert "hour.flac: 3600 s, expected at most 90 s" in page.page.inner_text("#error")
    page.complaints.clear()
    soundfile.write(tmp_path / "large.wav", np.zeros(11_000_000, np.int16), 16_000)
    page.page.set_input_files("#file", tmp_path / "large.wav")
    page.until("document.getElementById('error').textContent.includes('22.0 MB')")


def test_a_file_is_dropped(page: Page, sentence: Path) -> None:
    bytes_of = list(sentence.read_bytes())
    page.page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
          for (const kind of ["dragenter", "dragover", "drop"]) {
            const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
            const event = new DragEvent(kind, options);
            document.body.dispatchEvent(event);
          }
        }""",
        bytes_of,
    )
    page.until("viewer.result")
    assert page.page.locator("#name").inner_text().startswith("dropped.wav, ")
    assert page.page.locator("#drop").is_hidden()


def test_long_recordings_have_few_buttons_and_their_own_places(
    page: Page, sentence: Path, tmp_path: Path
) -> None:
    once, rate = soundfile.read(sentence, dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.tile(once, 1 + int(50 * rate / len(once))), rate)
    result = page.open(tmp_path / "long.wav")
    assert len(page.page.locator(PHONES).all()) < len(result["phones"]) / 2
    page.page.locator(f"{PHONES}[tabindex='0']").focus()
    page.page.keyboard.press("End")
    last = result["phones"][-1]
    label = page.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith(f"{last['phone']}, {last['start_s']:.2f} to")
    wave, tracks = page.page.evaluate(
        "[viewer.wave.getScroll(), document.getElementById('tracks').scrollLeft]"
    )
    assert wave == pytest.approx(tracks, abs=2)
    assert tracks > 5000


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_can_be_read(
    chromium: Any, address: str, sentence: Path, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 844}
    page = Page(chromium, address, viewport=viewport, color_scheme=scheme)
    page.page.fill("#text", TEXT)
    page.open(sentence)
    page.until("viewer.assessment")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    for text in page.page.evaluate(CONTRASTS.read_text()):
        assert text["ratio"] >= 4.5, text
    page.close()
