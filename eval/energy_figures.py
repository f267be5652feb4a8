"""The figures of EBRM against its base model as data, and as the tables that documents show."""

from collections.abc import Sequence
from typing import Literal

from distill.settings import Settings
from eval.results import MISSING, share
from eval.scores import Interval
from eval.speed.figures import markdown_table
from eval.steering_figures import points

POOLED = "all"
LOSS_POINTS = -2.0
"""Where a lower bound below this many points would say that EBRM may lose accuracy that matters."""


class PairSetFigures(Settings):
    """Held-out pairs of one set, over all seeds; differences are EBRM minus base, paired by pair and seed."""

    name: str
    num_pairs: int
    num_outcomes: int
    num_clusters: int
    base: Interval
    refined: Interval
    difference: Interval
    p_value: float
    base_loss: Interval
    refined_loss: Interval
    loss_difference: Interval
    base_calibration_error: float
    refined_calibration_error: float
    share_kept: float
    share_restarted: float
    mean_steps: float


class BestOfNRow(Settings):
    """Best of n by each model: gold is the share of right answers, proxy the selecting reward in its deviations."""

    n: int
    kl_nats: float
    base_gold: Interval
    refined_gold: Interval
    difference: Interval
    base_proxy: float
    refined_proxy: float


class EnergyFigures(Settings):
    """What the reward stage measured; intervals are of 95 %, resampled by cluster."""

    format: Literal["distill-ebrm"] = "distill-ebrm"
    described: str
    num_seeds: int
    sets: tuple[PairSetFigures, ...]
    best_of_n: tuple[BestOfNRow, ...] = ()
    base_fall: Interval | None = None
    refined_fall: Interval | None = None

    @property
    def pooled(self) -> PairSetFigures:
        """All sets together, or the only one."""
        return self.sets[-1]

    def to_markdown(self) -> str:
        """What was done, and the tables, each with its reading."""
        readings = [self._accuracy(), "", self._over_optimisation() if self.best_of_n else ""]
        parts = [f"{self.described}:"]
        for (title, rows), reading in zip(self.tables().items(), readings, strict=False):
            parts.append(f"{title[0].upper()}{title[1:]}:")
            parts.append(markdown_table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
            parts += [reading] if reading else []
        return "\n\n".join(parts) + "\n"

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """Rows by heading, by what the table is about."""
        found = {
            "held-out pairs": [dict(zip(SET_HEADINGS, _set_cells(one), strict=True)) for one in self.sets],
            "calibration": [dict(zip(CALIBRATION_HEADINGS, _calibration_cells(one), strict=True)) for one in self.sets],
        }
        if self.best_of_n:
            found["best of n"] = [dict(zip(BEST_HEADINGS, _best_cells(row), strict=True)) for row in self.best_of_n]
        return found

    def _accuracy(self) -> str:
        low, failing = (
            100 * self.pooled.difference.low,
            [one.name for one in self.sets if one.name != POOLED and 100 * one.difference.low < LOSS_POINTS],
        )
        verdict = "is not" if low >= LOSS_POINTS else "is"
        text = f"The lower bound over all pairs, {_signed(low)} points, {verdict} below −2"
        return f"{text}; by itself, that of {', '.join(failing)} is." if failing else f"{text}."

    def _over_optimisation(self) -> str:
        assert self.base_fall is not None
        assert self.refined_fall is not None
        last = self.best_of_n[-1]
        told = [
            f"Gold at n = {last.n} less the highest at a smaller n: {name} {points(fall)} points ({_seen(fall)})"
            for name, fall in (("base", self.base_fall), ("EBRM", self.refined_fall))
        ]
        if last.difference.low > 0:
            verdict = "EBRM delays over-optimisation here"
        elif last.difference.high < 0:
            verdict = "EBRM does not delay over-optimisation here: it selects worse"
        else:
            verdict = "over-optimisation is not shown to be delayed: the interval at the largest n includes 0"
        return f"{'; '.join(told)}. {verdict[0].upper()}{verdict[1:]}."


SET_HEADINGS = ("pairs", "held-out readings", "base", "EBRM", "EBRM minus base, points", "p", "kept by the filter",
                "restarted", "steps uphill")  # fmt: skip
CALIBRATION_HEADINGS = ("pairs", "base: loss, nats", "EBRM: loss, nats", "difference", "base: calibration error",
                        "EBRM: calibration error")  # fmt: skip
BEST_HEADINGS = ("n", "KL, nats", "base: gold", "EBRM: gold", "EBRM minus base, points", "base: proxy",
                 "EBRM: proxy")  # fmt: skip


def _set_cells(one: PairSetFigures) -> Sequence[str]:
    return (
        one.name,
        f"{one.num_outcomes:,} of {one.num_pairs:,} pairs in {one.num_clusters:,} clusters",
        share(one.base),
        share(one.refined),
        points(one.difference),
        f"{one.p_value:.3f}",
        f"{100 * one.share_kept:.1f} %",
        f"{100 * one.share_restarted:.1f} %",
        f"{one.mean_steps:.1f}",
    )


def _calibration_cells(one: PairSetFigures) -> Sequence[str]:
    return (
        one.name,
        _nats(one.base_loss),
        _nats(one.refined_loss),
        _nats(one.loss_difference, signed=True),
        f"{100 * one.base_calibration_error:.1f} %",
        f"{100 * one.refined_calibration_error:.1f} %",
    )


def _best_cells(row: BestOfNRow) -> Sequence[str]:
    return (
        str(row.n),
        f"{row.kl_nats:.2f}",
        share(row.base_gold),
        share(row.refined_gold),
        MISSING if row.n == 1 else points(row.difference),
        _signed(row.base_proxy, digits=2),
        _signed(row.refined_proxy, digits=2),
    )


def _seen(fall: Interval) -> str:
    return "over-optimised" if fall.high < 0 else "no fall shown"


def _nats(value: Interval, *, signed: bool = False) -> str:
    form = "{:+.3f}" if signed else "{:.3f}"
    mean, low, high = (form.format(number).replace("-", "−") for number in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _signed(value: float, *, digits: int = 1) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
