"""Formulas of the documentation as MathML, which browsers draw without a script."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex (generic) leaves: \( inline \) and \[ display \].
_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\(\(|\[)(.*?)\\(?:\)|\])</\1>', re.S
)


def on_page_content(text: str, **_: Any) -> str:
    """Called by mkdocs with a page's HTML."""
    return _FORMULA.sub(_mathml, text)


def _mathml(match: re.Match[str]) -> str:
    display = "inline" if match[2] == "(" else "block"
    return convert(html.unescape(match[3]).strip(), display=display)
