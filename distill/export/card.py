"""A short README.md in each artefact's folder: what it is, where it comes from, how near it is, how to run it."""

from collections.abc import Mapping
from pathlib import Path

_USAGE = {
    "transformers": (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        'model = AutoModelForCausalLM.from_pretrained("{name}")\n```'
    ),
    "llama.cpp": "```sh\nllama-server --model {name}\n```",
}


def card(
    *,
    title: str,
    description: str,
    runtime: str,
    file_name: str,
    lineage: Mapping[str, str],
    figures: Mapping[str, str],
) -> str:
    """The card's Markdown.

    Args:
        title: name of the artefact.
        description: the format, in words.
        runtime: `transformers` or `llama.cpp`.
        file_name: what the runtime is given: `.` for the folder, or a file in it.
        lineage: where the model comes from, such as teacher, student and data.
        figures: measurements, as they are to be shown.
    """
    parts = [f"# {title}", description]
    if lineage:
        parts += ["## Lineage", _table(("what", "value"), lineage)]
    if figures:
        parts += ["## Measured against the merged model", _table(("figure", "value"), figures)]
    parts += ["## Use", _USAGE[runtime].format(name=file_name), "Checksums: `sha256sum -c SHA256SUMS`."]
    return "\n\n".join(parts) + "\n"


def write_card(folder: Path, text: str) -> None:
    """Writes README.md into `folder`."""
    (folder / "README.md").write_text(text, encoding="utf-8")


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
