"""Extract the pictures of docs/guide/lstm.md from the page of `make explain`.

python recipes/explain/pictures.py exp/explain/sentence-1.html [docs/images]
"""

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
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")
    for name, alt in WANTED.items():
        match = re.search(f'alt="{alt}" src="data:image/svg\\+xml,([^"]*)"', page)
        if match is None:
            sys.exit(f"error: {sys.argv[1]}: no picture {alt!r}; expected two layers")
        svg = unquote(match[1]).replace("<svg ", '<svg style="background:#fbfaf7" ', 1)
        (folder / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
