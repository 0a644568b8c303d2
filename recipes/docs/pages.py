"""The pages of the manual that are not in docs/: READMEs, model cards, modules.

A hook of MkDocs. It also turns links, which are those of a code host, into links of the site: to
the page of a file; where a file has none, its path is shown instead.
"""

import fnmatch
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SHEET = Path(__file__).with_name("site.css")
READING = re.compile(r"\]\((asr/[\w/]+\.py)\)")  # the files of README's "Reading it"
CODE = re.compile(r"(^ *```.*\n(?:.*\n)*? *```$|^(?: {4}.*\n)+)", re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\\.|!\[[^\]]*\]\([^)]*\))*)\]\(([^()\s]+)\)")

EMBEDDED = """<iframe class="inside" src="inside.html" title="Inside an LSTM while it listens"
loading="lazy"></iframe>

<a href="inside.html">This page by itself</a>"""

PLACES: dict[str, str] = {}  # of pages outside docs/: in the site, by that in the repository


def _module(place: str) -> str:
    """The file of a module, by its page: python/asr.scoring.md → asr/scoring/__init__.py."""
    path = place.removeprefix("python/").removesuffix(".md").replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def _places(nav: list[str]) -> dict[str, str]:
    places = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
    for path in sorted(ROOT.glob("recipes/*/README.md")):
        places[path.relative_to(ROOT).as_posix()] = f"recipes/{path.parent.name}.md"
    for path in sorted(ROOT.glob("asr/pretrained/*.md")):
        places[path.relative_to(ROOT).as_posix()] = f"models/{path.name}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in READING.findall(readme.partition("## Reading it")[2]):
        places[path] = f"python/{path.removesuffix('.py').replace('/', '.')}.md"
    modules = (place for place in nav if fnmatch.fnmatch(place, "python/[!*]*"))
    return places | {_module(place): place for place in modules}


def _listed(nav: Any) -> list[str]:
    """The pages and patterns of a part of the navigation."""
    if isinstance(nav, str):
        return [nav]
    return [
        one for part in (nav.values() if isinstance(nav, dict) else nav) for one in _listed(part)
    ]


def _filled(nav: Any, pages: list[str]) -> Any:
    """A part of the navigation, with pages in the place of its patterns."""
    if isinstance(nav, list):
        return [one for part in nav for one in _filled(part, pages)]
    if isinstance(nav, str):
        same_depth = [one for one in pages if one.count("/") == nav.count("/")]
        return fnmatch.filter(same_depth, nav) if "*" in nav else [nav]
    ((title, below),) = nav.items()
    is_page = isinstance(below, str) and "*" not in below
    return [nav if is_page else {title: _filled(below, pages)}]


def on_config(config: MkDocsConfig) -> None:
    """Fill the navigation."""
    named = _listed(config.nav)
    PLACES.clear()
    PLACES.update(_places(named))
    docs = Path(config.docs_dir)
    ours = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    dated = sorted((one for one in ours if one.startswith("experiments/")), reverse=True)
    pages = [*dated, *(one for one in ours if one not in dated), *PLACES.values()]
    config.nav = _filled(config.nav, [one for one in pages if one not in named])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""
    for path, place in PLACES.items():
        if path.endswith(".md"):
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
        else:
            module = place.removeprefix("python/").removesuffix(".md")
            files.append(File.generated(config, place, content=f"# {module}\n\n::: {module}\n"))
    explained = ROOT / config.extra["explained"]
    if not explained.exists():
        raise PluginError(f"{explained} is absent: make docs writes it")
    for place, file in ("site.css", SHEET), ("guide/inside.html", explained):
        files.append(File.generated(config, place, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links of the site."""
    sources = {place: path for path, place in PLACES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def linked(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(source), path))
        place = PLACES.get(path) or PLACES.get(f"{path}/README.md")
        if path.startswith("docs/"):
            place = path.removeprefix("docs/")
        if place:
            there = os.path.relpath(place, os.path.dirname(page.file.src_uri))
            return f"{image}[{text}]({there}{hash}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # which MkDocs warns of
        shown = text.strip("`/").replace("\\", "")
        return f"`{path}`" if path.endswith(shown) else f"{text} (`{path}`)"

    parts = CODE.split(markdown)
    markdown = "".join(part if n % 2 else LINK.sub(linked, part) for n, part in enumerate(parts))
    if re.search("^ {3}```", markdown, re.MULTILINE):  # code within lists: Python-Markdown wants 4
        markdown = re.sub("^ {3}", "    ", markdown, flags=re.MULTILINE)
    return markdown.replace("<!-- page of asr explain -->", EMBEDDED)
