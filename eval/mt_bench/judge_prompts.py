"""Judge prompts in FastChat's file, and the one pass that fills their templates.

A filled-in text is never read again, so that an answer which holds `{question}`, braces or a verdict of its own
stays what it is: text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl

OUTPUT_FORMATS = {
    "single": ("[[rating]]",),
    "pairwise": ("[[A]]", "[[A>>B]]", "[[rating_a,rating_b]]"),
}
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
KNOWN_NAME = re.compile(r"question(_\d+)?|answer(_\d+)?|answer_[ab](_\d+)?|ref_answer_\d+")


@dataclass(frozen=True)
class JudgePrompt:
    """What a judge is told: a system message, a template with `{names}`, and the shape its verdict is asked in."""

    name: str
    type: Literal["single", "pairwise"]
    system_prompt: str
    prompt_template: str
    description: str
    category: str
    output_format: str

    def to_json(self) -> dict[str, object]:
        """The row of FastChat's file."""
        return {
            "name": self.name,
            "type": self.type,
            "system_prompt": self.system_prompt,
            "prompt_template": self.prompt_template,
            "description": self.description,
            "category": self.category,
            "output_format": self.output_format,
        }


def fill(template: str, values: Mapping[str, str]) -> str:
    """`str.format` for plain `{names}`, in a single pass over the template; inserted text is never read again.

    Args:
        template: text with `{name}` for each value, `{{` and `}}` for braces.
        values: texts by name; names the template does not use are ignored.

    Raises:
        DataError: the template names a value that is not given, asks for an attribute or a format, or has a brace
            of its own.
    """

    def inserted(match: re.Match[str]) -> str:
        found, name = match.group(0), match.group(1)
        if found in ("{{", "}}"):
            return found[0]
        if name is None:
            raise DataError(
                f"a judge's template has a lone {found} at character {match.start()}",
                why="braces enclose names",
                fix="write {{ or }} for a brace of the text",
            )
        if name not in values:
            raise DataError(
                f"a judge's template asks for {{{name}}}",
                why=f"this match has {', '.join(sorted(values))}",
                fix="use one of these names, or double the braces",
            )
        return values[name]

    return PLACEHOLDER.sub(inserted, template)


def read_judge_prompts(path: Path) -> dict[str, JudgePrompt]:
    """Reads a `judge_prompts.jsonl`, by name; the last row of a name counts, as in FastChat.

    Raises:
        DataError: the file is missing or empty, or a row cannot be used; names file and line.
    """
    prompts: dict[str, JudgePrompt] = {}
    for number, row in read_jsonl(path):
        prompt = _prompt_from(row, where=f"{path}:{number}")
        prompts[prompt.name] = prompt
    if not prompts:
        raise DataError(f"{path} holds no judge prompt", why="a judge must be told what to do", fix="name another file")
    return prompts


def write_judge_prompts(path: Path, prompts: Iterable[JudgePrompt]) -> None:
    """Writes a `judge_prompts.jsonl` that FastChat reads too."""
    write_jsonl(path, (prompt.to_json() for prompt in prompts))


def _prompt_from(row: Mapping[str, object], *, where: str) -> JudgePrompt:
    kind = row.get("type")
    if kind not in ("single", "pairwise"):
        raise DataError(f"{where}: type is {kind!r}", why="single or pairwise was expected")
    texts: dict[str, str] = {}
    for name in ("name", "system_prompt", "prompt_template", "output_format"):
        value = row.get(name)
        if not isinstance(value, str) or (not value and name != "system_prompt"):
            raise DataError(f"{where}: {name} is {value!r:.60}", why="text was expected")
        texts[name] = value
    if texts["output_format"] not in OUTPUT_FORMATS[str(kind)]:
        known = ", ".join(OUTPUT_FORMATS[str(kind)])
        raise DataError(f"{where}: output_format is {texts['output_format']!r}", why=f"{kind} prompts know {known}")
    _require_plain_names(texts["prompt_template"], where=where)
    return JudgePrompt(
        name=texts["name"],
        type="single" if kind == "single" else "pairwise",
        system_prompt=texts["system_prompt"],
        prompt_template=texts["prompt_template"],
        description=str(row.get("description", "")),
        category=str(row.get("category", "")),
        output_format=texts["output_format"],
    )


def _require_plain_names(template: str, *, where: str) -> None:
    """Refuses at reading what could only fail at the first match."""
    for match in PLACEHOLDER.finditer(template):
        if match.group(0) in ("{{", "}}"):
            continue
        if match.group(1) is None or not KNOWN_NAME.fullmatch(match.group(1)):
            raise DataError(
                f"{where}: prompt_template holds {match.group(0)!r:.60}",
                why="known are question, answer, answer_a, answer_b, each perhaps with _1, _2, and ref_answer_1, _2",
                fix="correct the name, or double the braces",
            )
