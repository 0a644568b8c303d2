"""The manual as a site: built without a warning; links lead somewhere, and nothing is fetched."""

import json
import logging
import re
import subprocess
import warnings
from pathlib import Path
from types import ModuleType

import documented
import pytest
from conftest import CHROMIUM, REPOSITORY, recipe

pytest.importorskip("material")
pytest.importorskip("mkdocstrings")
from mkdocs.commands.build import build
from mkdocs.config import load_config

MEASURE = """<script>document.title = JSON.stringify(
[innerWidth, document.documentElement.scrollWidth])</script></body>"""


@pytest.fixture(scope="module")
def links() -> ModuleType:
    return recipe("docs/links")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, with another page in the place of that of `asr explain`."""
    folder = tmp_path_factory.mktemp("docs")
    explained = folder / "explain.html"
    explained.write_text("<!doctype html><title>inside</title>")
    heard: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = heard.append  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of mkdocs and its plugins
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        file = REPOSITORY / "recipes/docs/mkdocs.yml"
        config = load_config(str(file), site_dir=str(folder / "site"))
        config.extra["explained"] = str(explained)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    logging.getLogger("mkdocs").removeHandler(handler)
    assert config.strict
    assert [record.getMessage() for record in heard] == []
    return folder / "site"


def test_no_link_leads_nowhere_and_nothing_is_fetched(site: Path, links: ModuleType) -> None:
    result = links.check(site)
    assert result.wrong == []
    assert result.pages > 60
    sheets = "".join(sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?(https?:)?//|@import", sheets)


def test_wrong_links_are_named(tmp_path: Path, links: ModuleType) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#c"></a><a href="b.html#d"></a><a href="e.html"></a><a href="//f.org"></a>'
        '<img src="https://f.org/g.png"><img src="data:,"><link href="//f.org/h.css">'
    )
    (tmp_path / "b.html").write_text('<p id="c"></p>')
    wrong = [line.partition(": ")[2] for line in links.check(tmp_path).wrong]
    assert sorted(wrong) == [
        "//f.org/h.css: <link> of another site",
        "b.html#d: no such anchor",
        "e.html: no such file",
        "https://f.org/g.png: <img> of another site",
    ]


def test_links_of_the_repository_are_links_of_the_site(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in "guide/per", "python/asr.records", "recipes/timit", "contributing":
        assert f'href="{page}.html"' in index
    assert "<code>CITATION.cff</code>" in index  # a file without a page
    recipe_page = (site / "recipes/librispeech.html").read_text(encoding="utf-8")
    assert 'href="../models/librispeech.html"' in recipe_page


def test_the_main_path_and_the_interface_are_in_the_python_reference(site: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\(asr/([\w/]+)\.py\)", readme.partition("## Reading it")[2])
    for module in ["", *named]:
        name = ".".join(["asr", *filter(None, module.split("/"))])
        page = (site / f"python/{name}.html").read_text(encoding="utf-8")
        assert f'id="{name}' in page, name
    assert "align" in (site / "python/asr.html").read_text(encoding="utf-8")


def test_the_search_has_every_page(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    places = {one["location"].partition("#")[0] for one in index["docs"]}
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert pages - places <= {"404.html", "guide/inside.html", "index.html"}


def test_patterns_of_the_navigation_are_filled() -> None:
    filled = recipe("docs/pages")._filled
    nav = [{"A": "a.md"}, {"B": ["b/c.md", "b/*.md"]}, {"D": "*.md"}]
    assert filled(nav, ["e.md", "b/f.md", "b/g/h.md"]) == [
        {"A": "a.md"},
        {"B": ["b/c.md", "b/f.md"]},
        {"D": ["e.md"]},
    ]


def test_every_page_of_the_guide_has_commands() -> None:
    pages = documented.guide()
    assert len(pages) > 8
    assert pages[0] == "README.md"
    with_commands = {command.place.partition(":")[0] for command in documented.commands()}
    assert {*pages} - with_commands == {"docs/python.md"}  # tests/test_python.py runs its code


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("page", ["index.html", "python/asr.html"])
def test_a_page_is_as_wide_as_a_telephone(site: Path, page: str, tmp_path: Path) -> None:
    measured = site / page.replace(".html", "-measured.html")
    html = (site / page).read_text(encoding="utf-8")
    measured.write_text(html.replace("</body>", MEASURE), encoding="utf-8")
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    dumped = subprocess.run(
        [CHROMIUM, *flags, "--window-size=390,900", "--dump-dom", measured.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    measured.unlink()
    titled = re.search(r"<title>(\[[^<]*\])</title>", dumped)
    assert titled is not None
    window, content = json.loads(titled[1])
    assert content <= window <= 500  # which some versions have as their least
