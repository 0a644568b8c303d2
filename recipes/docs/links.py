"""Check the links of a built site: files and anchors that are absent, and resources from elsewhere.

    python recipes/docs/links.py build/site [--external]

Links to other sites are counted, or printed, and never fetched. The exit code is 1 where a link
leads nowhere, or a page loads something from another site.
"""

import argparse
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from asr.errors import DataError, exit_code

RESOURCES = {("link", "href"), ("iframe", "src"), ("audio", "src"), ("source", "src")}
RESOURCES |= {("img", "src"), ("script", "src"), ("video", "src"), ("object", "data")}


class _Page(HTMLParser):
    """The anchors of a page, and its links with the tag that has them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors = {"", "__top"}
        self.links: set[tuple[str, str]] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag, name) == ("a", "name"):
                self.anchors.add(value or "")
            elif (tag, name) == ("a", "href") or (tag, name) in RESOURCES:
                self.links.add((tag, value or ""))


@dataclass
class Links:
    """What the links of a site lead to: `wrong` is one line a link, `external` are addresses."""

    pages: int = 0
    internal: int = 0
    external: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def check(site: Path) -> Links:
    """All links of all pages below `site`."""
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html"  # its links are of the root of a server
    }
    result = Links(len(pages))
    for path, page in pages.items():
        for tag, link in sorted(page.links):
            where = f"{path.relative_to(site.resolve())}: {link}"
            address = urlsplit(link)
            if address.scheme == "data":
                continue
            if address.scheme or address.netloc:
                result.external.add(link)
                if tag != "a":
                    result.wrong.append(f"{where}: <{tag}> of another site")
                continue
            result.internal += 1
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                result.wrong.append(f"{where}: no such file")
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                result.wrong.append(f"{where}: no such anchor")
    return result


@exit_code
def main() -> None:
    """Prints what is wrong, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="print links to other sites")
    arguments = parser.parse_args()
    links = check(arguments.site)
    if not links.pages:
        raise DataError(f"{arguments.site}: no pages, expected a site; run: make docs")
    if arguments.external:
        print("\n".join(sorted(links.external)))
    print("\n".join(links.wrong), end="\n" if links.wrong else "")
    print(
        f"{links.pages} pages, {links.internal} links within the site, {len(links.wrong)} of them "
        f"wrong; {len(links.external)} to other sites, not fetched"
    )
    sys.exit(bool(links.wrong))


if __name__ == "__main__":
    sys.exit(main())
