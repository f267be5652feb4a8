"""The scoreboard as the page shows it: sections of plots and tables, in the order in which they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eval.mt_bench.board import pair_tables, score_tables, tables
from eval.mt_bench.board.cells import Table
from eval.mt_bench.board.plots import PLOTTED_SCALE, interval_plot, radar_plot
from eval.mt_bench.board.scoreboard import PairBoard, Scoreboard, SingleBoard
from eval.mt_bench.board.scores import FEWEST_QUESTIONS
from eval.scores import Interval


@dataclass(frozen=True)
class Part:
    """A plot, a table, or both with the plot first; parts that are `folded` open on a click."""

    plot: Markup | None = None
    table: Table | None = None
    is_folded: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with what stands beneath it; `key` is the protocol that all of it was made by."""

    heading: str
    parts: tuple[Part, ...]
    key: str = ""


def page_sections(board: Scoreboard) -> list[Section]:
    """All sections that have something to show."""
    sections = [_single(board, one, f"single-{number}") for number, one in enumerate(board.single)]
    sections += [_pair(board, one, f"pair-{number}") for number, one in enumerate(board.pair)]
    leans = [
        table for one in board.pair for table in (pair_tables.position_table(one), pair_tables.game_repeat_table(one))
    ]
    leans += [
        table for one in board.single for table in (score_tables.canary_table(one), score_tables.repeat_table(one))
    ]
    leans += [tables.length_table(board)]
    sections.append(Section("What moves the judges", _filled([Part(table=table) for table in leans])))
    sections.append(Section("Agreement between judges", _filled([Part(table=tables.agreement_table(board))])))
    return [section for section in sections if section.parts]


def _single(board: Scoreboard, one: SingleBoard, key: str) -> Section:
    numbers = {model: number for number, model in enumerate(board.models)}
    means = [(score.model, [(numbers[score.model], score.mean)] if score.mean else []) for score in one.scores]
    differences = [(f"{d.first} − {d.second}", [(numbers[d.first], d.paired.difference)]) for d in one.differences]
    by_category = {score.model: score.by_category for score in one.scores if score.by_category}
    parts = [
        Part(
            _intervals(means, "mean score with 95 % interval, 1 to 10", f"{key}-means", scale=PLOTTED_SCALE),
            score_tables.score_table(one),
        ),
        Part(
            _intervals(differences, "paired difference in points with 95 % interval", f"{key}-pairs", zero_line=True),
            score_tables.difference_table(one),
        ),
        Part(_radar(by_category, board, f"{key}-radar")),
        Part(_by_category(by_category, board, numbers, f"{key}-categories")),
        Part(table=score_tables.category_table(one), is_folded=True),
        Part(table=score_tables.turn_table(one)),
        Part(table=score_tables.fastchat_score_table(one)),
    ]
    return Section(f"Scores by {one.protocol.judge}", _filled(parts), one.protocol.key)


def _pair(board: Scoreboard, one: PairBoard, key: str) -> Section:
    numbers = {model: number for number, model in enumerate(board.models)}
    rates = [
        (f"{m.first} against {m.second}", [(numbers[m.first], _per_cent(m.preference.outcomes.signed_rate))])
        for m in one.matchups
    ]
    title = "wins less losses in per cent with 95 % interval"
    by_category = [
        (name, [(numbers[m.first], _per_cent(m.preference.by_source[name].signed_rate))])
        for m in one.matchups
        for name in m.preference.by_source
        if len(one.matchups) == 1 and m.preference.by_source[name].num_clusters >= FEWEST_QUESTIONS
    ]
    parts = [
        Part(table=pair_tables.record_table(one)),
        Part(_intervals(rates, title, f"{key}-rates", zero_line=True), pair_tables.matchup_table(one)),
        Part(_intervals(by_category, f"{title}, by category", f"{key}-categories", zero_line=True)),
        Part(table=pair_tables.strength_table(one)),
        Part(table=pair_tables.fastchat_record_table(one)),
    ]
    return Section(f"Comparisons by {one.protocol.judge}", _filled(parts), one.protocol.key)


def _filled(parts: Sequence[Part]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.plot is not None or (part.table is not None and part.table.rows))


def _intervals(
    rows: Sequence[tuple[str, list[tuple[int, Interval]]]],
    title: str,
    key: str,
    *,
    scale: tuple[float, float] | None = None,
    zero_line: bool = False,
) -> Markup | None:
    if not any(values for _, values in rows):
        return None
    return Markup(interval_plot(rows, title=title, key=key, scale=scale, zero_line=zero_line))


def _radar(by_category: Mapping[str, Mapping[str, Interval]], board: Scoreboard, key: str) -> Markup | None:
    ordered = {model: by_category[model] for model in board.models if model in by_category}
    if len(ordered) != len(by_category) or not ordered:
        return None
    numbers = [number for number, model in enumerate(board.models) if model in ordered]
    svg = radar_plot(
        ordered, numbers=numbers, categories=list(board.categories), title="mean score by category", key=key
    )
    return None if svg is None else Markup(svg)


def _by_category(
    by_category: Mapping[str, Mapping[str, Interval]], board: Scoreboard, numbers: Mapping[str, int], key: str
) -> Markup | None:
    rows = [
        (name, [(numbers[model], values[name]) for model, values in by_category.items() if name in values])
        for name in board.categories
    ]
    if not any(values for _, values in rows):
        return None
    title = "mean score by category with 95 % intervals, 1 to 10"
    return Markup(interval_plot(rows, title=title, key=key, names=board.models, scale=PLOTTED_SCALE))


def _per_cent(value: Interval) -> Interval:
    return Interval(100 * value.mean, 100 * value.low, 100 * value.high)
