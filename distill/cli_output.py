"""What the command line prints: tables as text or JSON, from the main process of a launcher only."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MEASURING_STAGES = ("f_dpg", "harmlessness", "linear_alignment", "reward")
"""Stages whose `results.json` holds figures of their own, which `eval.stage_figures` reads."""


def is_main_rank() -> bool:
    """Whether this process speaks for all of a launcher's."""
    return os.environ.get("RANK", "0") == "0"


def print_facts(title: str, facts: Mapping[str, object], *, as_json: bool) -> None:
    """A table of names and values."""
    print_table(title, [{"what": name, "value": value} for name, value in facts.items()], as_json=as_json)


def print_object(value: Mapping[str, object]) -> None:
    """One JSON object."""
    if is_main_rank():
        print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(title: str, rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """A table on stdout; of the processes of a launcher, the main one prints."""
    if not is_main_rank():
        return
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("nothing",):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(table)


def print_lines(lines: Sequence[str]) -> None:
    """Sentences below a table."""
    if is_main_rank():
        for line in lines:
            print(line)


def print_results(output: Path, *, is_whole: bool, as_json: bool) -> None:
    """The result table, where the run went as far as an evaluation, and those of other stages that measure."""
    from eval.results import read_results

    path = output / "evaluate" / "results.json"
    if not is_main_rank():
        return
    own = [folder for stage in MEASURING_STAGES if (folder := output / stage / "results.json").exists()]
    if is_whole and own and not (as_json and path.exists()):  # one JSON object, the evaluation's first
        for one in own[:1] if as_json else own:
            _print_figures(one, as_json=as_json)
        if not path.exists():
            return
    if not (is_whole and path.exists()):
        print_facts("done", {"output": str(output)}, as_json=as_json)
        return
    results = read_results(path)
    if as_json:
        print(path.read_text(encoding="utf-8"), end="")
        return
    rows: list[dict[str, object]] = [dict(zip(results.headings, cells, strict=True)) for cells in results.cells()]
    print_table(f"results of {output}", rows, as_json=False)
    for line in [*results.sentences(), *results.notes]:
        print(line)
    report = output / "report" / "report.html"
    if report.exists():
        print(f"report: {report}")


def _print_figures(path: Path, *, as_json: bool) -> None:
    """What a stage measured, its tables one after another."""
    from eval.stage_figures import read_stage_figures

    if as_json:
        print(path.read_text(encoding="utf-8"), end="")
        return
    figures = read_stage_figures(path)
    print(figures.described)
    for title, rows in figures.tables().items():
        print_table(title, rows, as_json=False)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
