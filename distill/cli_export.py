"""`distill export MODEL`: a model folder to artefacts, with what they are measured on and the gates they must pass."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli_output import print_lines, print_table
from distill.errors import RecipeError

if TYPE_CHECKING:
    from distill.export import ExportReport

ChatsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="MODEL: held-out conversations (JSONL, as prepare/valid.jsonl) for KL"),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="MODEL: training conversations that auto-round and llm-compressor fit to"),
]
DtypeOption = Annotated[
    str | None, typer.Option(help="MODEL: of the merged weights: float32, float16 or bfloat16; else as they are stored")
]
TeacherOption = Annotated[
    str | None, typer.Option(metavar="MODEL | CACHE", help="MODEL: measure KL to this teacher, before and after")
]
MaxKlOption = Annotated[
    float | None,
    typer.Option(metavar="NATS", help="MODEL, verify: gate on the mean KL per token; exit code 3 if missed"),
]
MinTop1Option = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="MODEL, verify: gate on the same likeliest token, 0 to 1; exit code 3"),
]


def export_folder(
    model: str,
    words: list[str] | None,
    *,
    formats: str | None,
    out: Path | None,
    measured: Mapping[str, object],
    as_json: bool,
) -> None:
    """Exports a model folder and prints the table of artefacts.

    Args:
        measured: `chats`, `calibration`, `dtype`, `teacher`, `max_kl`, `min_top1` as given, None where not.

    Raises:
        RecipeError: options are missing or surplus, or a gate has nothing to be measured on.
        GateError: an artefact misses a gate; all are written.
    """
    if formats is None or out is None or words:
        surplus = f", not {' '.join(words)}" if words else ""
        raise RecipeError(
            f"export of the model {model} needs --formats and --out{surplus}",
            fix=f"distill export {model} --formats {formats or 'bnb-nf4,bnb-int8,gguf-q8_0'} --out {out or 'DIR'}",
        )
    given = {name: value for name, value in measured.items() if value is not None}
    chats = given.pop("chats", None)
    always: dict[str, object] = {name: given.pop(name) for name in ("calibration", "dtype") if name in given}
    if given and chats is None:
        option = "--" + next(iter(given)).replace("_", "-")
        raise RecipeError(
            f"{option} is given, but no held-out conversations",
            why="there is nothing to measure it on",
            fix="add --chats FILE, a file of conversations that the model was not trained on",
        )
    from distill.data import read_conversations
    from distill.export import ExportSettings, export_model
    from distill.settings import validated

    names = tuple(name.strip() for name in formats.split(",") if name.strip())
    settings = validated(ExportSettings, {**given, **always, "formats": names}, source="export")
    prompts = () if chats is None else read_conversations(Path(str(chats)))
    report = export_model(Path(model), formats=names, output_dir=out, prompts=prompts, settings=settings)
    _print(report, as_json=as_json)


def _print(report: "ExportReport", *, as_json: bool) -> None:
    """The table of artefacts and, unless as JSON, which to take, on what it was measured, and where the rest stands."""
    rows = report.rows()
    if as_json:
        told = report.to_json()
        rows = [row | {"recommended_as": told[str(row["format"])]["recommended_as"]} for row in rows]
    print_table(f"artefacts in {report.output_dir}", rows, as_json=as_json)
    if not as_json:
        hardware = [f"measured on {line}" for line in report.hardware]
        lines = [line.sentence() for line in report.recommendations()]
        print_lines([*lines, *hardware, f"report: {report.output_dir / 'report.html'}"])


def require_no_options(recipe: str, options: Mapping[str, object]) -> None:
    """Refuses the options of a model folder beside a recipe.

    Raises:
        RecipeError: names those given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return
    formats, out = options.get("formats") or "...", options.get("out") or "DIR"
    named = [
        f"--{name.replace('_', '-')}" for name in (given if given.keys() - {"formats", "out"} else ("formats", "out"))
    ]
    raise RecipeError(
        f"{' and '.join(named)} go with a model folder, and a recipe is given",
        why="a recipe says it itself",
        fix=f"distill export {recipe} 'export.formats=[{formats}]' output={out}",
    )
