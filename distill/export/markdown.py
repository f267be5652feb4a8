"""Markdown and YAML that hold any text without being broken by it: front matter, tables, cells."""

import re
from collections.abc import Mapping, Sequence

import yaml

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_MARKUP = re.compile(r"([\\`*|\[\]])")


def front_matter(values: Mapping[str, object]) -> str:
    """A YAML block between two lines of dashes; strings that could be read as something else are quoted."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=False, width=10**6)
    return f"---\n{text}---"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; every row has as many cells as the head."""
    lines = [_row(head), "|" + "---|" * len(head)]
    return "\n".join(lines + [_row(row) for row in rows])


def inline(text: str) -> str:
    """Text that shows as it is, on one line: no markup, HTML, line break or change of writing direction."""
    text = _CONTROL.sub(" ", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", text).strip()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(inline(cell) for cell in cells) + " |"
