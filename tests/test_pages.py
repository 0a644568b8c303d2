"""Every page: whole in itself, as wide as a phone or a laptop, and no name is HTML."""

import itertools
import json
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import CHROMIUM, REPOSITORY, tones_of

from asr import checkpoint
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.checkpoint import Checkpoint
from asr.commands import explain, report, score, show
from asr.config import RunConfig
from asr.corpora.folder import FolderConfig
from asr.criteria import CTCConfig
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Segment, Utterance, write_jsonl
from asr.training import curve
from asr.training.run_directory import EPOCH

TEMPLATES = REPOSITORY / "asr" / "templates"
PHONES = ("s", "aa", "m", "iy", "aa", "s", "iy", "m", "aa")
# What templates may put into a page as it is: data URLs, our own formulas, and a page's own parts.
SAFE = {"equation", "general", "numbers", "picture.source", "scored", "source", "symbol"}
MEASURE = """<script>document.title = JSON.stringify(
[innerWidth, document.documentElement.scrollWidth])</script></body>"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, whose test set has one long id that would be HTML."""
    run = tmp_path_factory.mktemp("run")
    (run / "manifests").mkdir()
    soundfile.write(run / "a.wav", tones_of(PHONES), 16_000)
    (run / "a.TXT").write_text("0 21600 Words that <script> no one spoke.\n")
    segments = tuple(Segment(p, 0.15 * n, 0.15 * (n + 1)) for n, p in enumerate(PHONES))
    id = "<script>" + 60 * "x"
    one = Utterance(id, str(run / "a.wav"), 1.35, "m", PHONES, segments, "tones", "test")
    write_jsonl(run / "manifests" / "test.jsonl", [one])
    write_jsonl(run / "test.hyp.jsonl", [Hypothesis(one.id, ("s", "m", "m", *PHONES[3:], "aa"))])
    torch.manual_seed(0)
    encoder = EncoderConfig(hidden=8, layers=2)
    config = RecognizerConfig(FeaturesConfig(bins=20, deltas=0), encoder, CTCConfig())
    recognizer = Recognizer(config, Vocabulary(sorted(set(PHONES)))).eval()
    checkpoint.save(run / "checkpoint-best.safetensors", Checkpoint(recognizer, {}))
    arguments = [str(run / "manifests" / "test.jsonl"), str(run / "test.hyp.jsonl")]
    assert (
        score.main([*arguments, "--protocol", "strict", "--output", str(run / "test.per.txt")]) == 0
    )
    training = {"experiment": "a", "seed": 1, "corpus": "c", "dev_per": 1.234, "epochs": 9}
    training |= {"best_epoch": 3, "parameters": 12345, "seconds": 61.2, "device": "cpu"}
    training |= {"machine": "m", "version": "1", "torch": "2"}
    (run / "training.json").write_text(json.dumps(training))
    losses = {"train_loss": 2.0, "dev_loss": 3.0, "dev_per": 9.0, "phase": 1}
    curve.draw(run / "learning-curve.png", [{"epoch": n, **losses} for n in (1, 2)], "dev")
    return run


def score_page(run: Path) -> Path:
    html = str(run / "score.html")
    arguments = [str(run / "manifests" / "test.jsonl"), str(run / "test.hyp.jsonl")]
    assert score.main([*arguments, "--protocol", "all", "--html", html]) == 0
    return run / "score.html"


def comparison_page(run: Path) -> Path:
    (run / "runs" / "1").mkdir(parents=True, exist_ok=True)
    for one in (run, run / "runs" / "1"):
        (one / "config.yaml").write_text(
            RunConfig(FolderConfig(root="<script>"), CTCConfig()).to_yaml()
        )
        (one / "train.jsonl").write_text(json.dumps(dict.fromkeys(EPOCH, 1)) + "\n")
    html = str(run / "runs.html")
    pair = [str(run), str(run / "runs" / "1")]
    assert report.main([*pair, "--output", html, "--overwrite"]) == 0
    return run / "runs.html"


MAKERS: dict[str, Callable[[Path], Path]] = {
    "report": report.run,
    "comparison": comparison_page,
    "score": score_page,
    "show": lambda run: show.run([run / "a.wav"], run / "show.html"),
    "explain": lambda run: explain.run(
        checkpoint=run / "checkpoint-best.safetensors", output=run / "explain.html"
    ),
}


@pytest.fixture(scope="module", params=MAKERS)
def page(request: pytest.FixtureRequest, finished: Path) -> Path:
    return MAKERS[request.param](finished)


class Outline(HTMLParser):
    """Headings, and tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_a_page_is_whole_and_can_be_read_aloud(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    outline = Outline(html)
    assert html.startswith("<!doctype html>")
    assert outline.all("html")[0]["lang"] == "en"
    assert re.search(r"<title>[^<]+</title>", html)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in outline.all("img"))
    assert all(drawn.get("aria-label") for drawn in outline.all("svg"))
    assert all(player["aria-label"] for player in outline.all("audio"))
    sources = [
        one.get("src") or one.get("href") for one in outline.all("img", "audio", "link", "a")
    ]
    assert all(source and source.startswith(("data:", "#")) for source in sources)
    assert "<script" not in html


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_as_wide_as_its_window(page: Path, width: int, tmp_path: Path) -> None:
    measured = tmp_path / "page.html"
    measured.write_text(page.read_text().replace("</body>", MEASURE), encoding="utf-8")
    assert CHROMIUM is not None
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    dumped = subprocess.run(
        [CHROMIUM, *flags, f"--window-size={width},900", "--dump-dom", measured.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    titled = re.search(r"<title>(\[[^<]*\])</title>", dumped)
    assert titled is not None
    window, content = json.loads(titled[1])
    assert content <= window <= max(width, 500)  # which some versions have as their least


def test_the_report_shows_words_and_errors(finished: Path) -> None:
    html = report.run(finished).read_text(encoding="utf-8")
    assert "“Words that &lt;script&gt; no one spoke.”" in html
    assert "2 errors in 9 phones" in html
    assert '<span class="e s"><b>aa</b>m</span>' in html
    assert '<span class="e i"><b>·</b>aa</span>' in html
    assert "<pre" not in html


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.stem)
def test_values_are_escaped(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"(\S+?)\s*\|\s*safe\b", text.replace("{{", "{{ "))) <= SAFE
    assert not re.search(r"autoescape|\|\s*(forceescape|tojson|xmlattr)|Markup|<script|=\{\{", text)


SHEET = (TEMPLATES / "page.css").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", rule))
        for rule in re.findall(r":root[\w.]* \{(.*?)\}", SHEET, re.DOTALL)
    )
    colours = light if scheme == "light" else dark
    ground = luminance(colours["ground"])
    for name in ("ink", "soft", "faint", "sub", "del", "ins", "ok"):
        one = luminance(colours[name])
        ratio = (max(one, ground) + 0.05) / (min(one, ground) + 0.05)
        assert ratio >= 4.5, (name, ratio)  # WCAG 2.2, 1.4.3
