"""HTML pages from jinja2 templates with one base, `page.html`, and one stylesheet, `page.css`.

A page is a single file without scripts and needs nothing from elsewhere. Values are escaped unless
they are `Markup`.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it takes longer to import than all of `asr score --help`
    from jinja2 import Environment


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("asr"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """The text of a template of this folder, named by its path: `show.html`."""
    return _environment().get_template(template).render(values)
