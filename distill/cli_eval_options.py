"""The options that several verbs of `distill eval` share, named as in FastChat where it has them."""

from pathlib import Path
from typing import Annotated

import typer

DATA = Path("data")

BenchOption = Annotated[
    str,
    typer.Option("--bench", "--bench-name", help="folder with a question.jsonl, or a shipped set: two_turns, embedded"),
]
DataOption = Annotated[Path, typer.Option("--data", help="where the folders of shipped sets and mt_bench stand")]
ReferencesOption = Annotated[
    str | None,
    typer.Option(help="set in reference_answer/, a file, own (the question file's) or none"),
]
ModelListOption = Annotated[
    list[str] | None, typer.Option("--model-list", metavar="ID[,ID ...]", help="whose answers; all by default")
]
JudgeNamesOption = Annotated[
    list[str] | None, typer.Option("--judge", metavar="NAME[,NAME ...]", help="whose verdicts; all by default")
]
SeedOption = Annotated[int, typer.Option(help="of every resampling")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the table as JSON")]
FailureRateOption = Annotated[
    float, typer.Option("--max-failure-rate", help="share of a model's verdicts that may be missing; else exit code 3")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", "--openai-api-base", help="of an OpenAI-compatible server, as a rule .../v1")
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key-env", metavar="NAME", help="environment variable with the server's key")
]


def listed(words: list[str] | None) -> tuple[str, ...]:
    """Names given as `--x a --x b` or `--x a,b`."""
    return tuple(name.strip() for word in words or () for name in word.split(",") if name.strip())
