"""Extract the pictures of docs/guide/lstm.md from the page of `make explain`.

python recipes/explain/pictures.py exp/explain/sentence-1.html [docs/images]
"""

import argparse
import re
import sys
from pathlib import Path
from urllib.parse import unquote

from asr.errors import exit_code

WANTED = {
    "explain-gates.svg": "gates and state of layer 2 over time",
    "explain-reach.svg": "influence of an input by its age",
}


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path, metavar="HTML")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8")
    for name, alt in WANTED.items():
        match = re.search(f'alt="{alt}" src="data:image/svg\\+xml,([^"]*)"', page)
        if match is None:
            sys.exit(f"error: {options.page}: no picture {alt!r}; expected two layers")
        svg = unquote(match[1]).replace("<svg ", '<svg style="background:#fbfaf7" ', 1)
        (options.folder / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
