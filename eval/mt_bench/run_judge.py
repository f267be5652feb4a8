"""A judging run from a benchmark's folder: planned, written as a batch or a sheet for people, or done."""

import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from distill.errors import DataError, RecipeError
from eval.judges import BatchJudge, Judge, RubricJudge
from eval.judges.human import judge_of, read_labels, write_sheet
from eval.mt_bench.bench_matches import JudgingRequest, matches_of
from eval.mt_bench.failures import MAX_FAILURE_RATE
from eval.mt_bench.folder import BenchFolder
from eval.mt_bench.judge_choice import JudgeChoice
from eval.mt_bench.judging import judge_matches, pending_matches, plan_judging
from eval.mt_bench.judging_cost import Budget, Price, read_prices
from eval.mt_bench.judgments import write_pair
from eval.mt_bench.layout import judgment_file
from eval.mt_bench.matches import Matches

log = logging.getLogger(__name__)

TRIES_OF_A_CALL, CAPS_OF_A_CALL = 2, 3
"""A reply that is cut off is asked again with twice its length: two prompts, and three times the cap in all."""


@dataclass(frozen=True)
class JudgingRun:
    """What to judge, who judges, and how far.

    Attributes:
        bench: the benchmark's folder.
        request: what is judged.
        judge: who judges.
        repeats: how often each call is made.
        retry_failed: ask again what failed before or has no verdict.
        max_failure_rate: share of a model's calls that may end without a verdict.
        prices: a price table; without one no cost is known.
        max_cost: in the table's currency.
    """

    bench: BenchFolder
    request: JudgingRequest
    judge: JudgeChoice
    repeats: int = 1
    retry_failed: bool = False
    max_failure_rate: float = MAX_FAILURE_RATE
    prices: Path | None = None
    max_cost: float | None = None

    def plan(self) -> dict[str, object]:
        """Calls, tokens and cost; asks nothing. See `judging_cost.JudgingPlan`."""
        matches, _ = self._matches
        plan = plan_judging(
            self._judge,
            matches.judged,
            self.bench.folder,
            max_completion_tokens=self._longest,
            num_tries=self._num_tries,
            repeats=self.repeats,
            retry_failed=self.retry_failed,
            price=self._price,
        )
        return {"judge": self._judge.name, **asdict(plan), "currency": self._currency, **_left_out(matches)}

    def judged(self) -> dict[str, object]:
        """Judges, and says what stands on the disk; see `judging.Judged` and what it raises."""
        matches, told = self._matches
        if not matches.judged:
            raise DataError("there is nothing to judge", why=_reasons(matches), fix="answer the questions first")
        judged = judge_matches(
            self._judge,
            matches.judged,
            self.bench.folder,
            repeats=self.repeats,
            retry_failed=self.retry_failed,
            max_failure_rate=self.max_failure_rate,
            budget=self._budget(),
            provenance=told,
        )
        facts = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(judged).items()}
        return {"judge": self._judge.name, **facts, "currency": self._currency, **_left_out(matches)}

    def write_batch(self, path: Path) -> int:
        """Writes the requests that are still to be made for OpenAI's Batch API; returns how many.

        Raises:
            RecipeError: the judge is of another kind, or nothing is left to ask.
        """
        judge = self._judge
        if not isinstance(judge, BatchJudge):
            raise RecipeError(
                f"--batch-out goes with --judge batch, not {self.judge.kind}",
                fix=f"--judge batch --judge-model NAME --batch-out {path}",
            )
        pending = pending_matches(
            judge, self._matches[0].judged, self.bench.folder, repeats=self.repeats, retry_failed=self.retry_failed
        )
        if not pending:
            raise RecipeError("every call is judged already", why="a batch of no requests is refused by the server")
        return judge.write_requests(pending, path)

    @cached_property
    def _judge(self) -> Judge:
        return self.judge.open(self.request.file_mode)

    @cached_property
    def _matches(self) -> tuple[Matches, dict[str, object]]:
        return matches_of(self.bench, self.request)

    @property
    def _longest(self) -> int:
        """The most tokens one call can be written in."""
        judge = self._judge.inner if isinstance(self._judge, RubricJudge) else self._judge
        cap = getattr(getattr(judge, "settings", None), "max_tokens", None)
        if not self.judge.is_chat or not isinstance(cap, int):
            return 0
        return cap if self.judge.kind == "batch" else CAPS_OF_A_CALL * cap

    @property
    def _num_tries(self) -> int:
        """How often a call's prompt is sent at most."""
        return 1 if self.judge.kind == "batch" else TRIES_OF_A_CALL

    @cached_property
    def _price(self) -> Price | None:
        if self.prices is None:
            return None
        if not self.judge.is_chat:
            raise RecipeError(f"--prices goes with a judge at a server, not {self.judge.kind}", fix="leave it out")
        return read_prices(self.prices).of(str(self.judge.values().get("model")))

    @property
    def _currency(self) -> str | None:
        return None if self.prices is None else read_prices(self.prices).currency

    def _budget(self) -> Budget | None:
        if self.max_cost is not None and self._price is None:
            raise RecipeError(
                f"--max-cost is {self.max_cost:g}, and no price is known",
                why="prices change, and none is shipped",
                fix="--prices FILE with date, currency and per_million_tokens: {MODEL: {prompt: ..., completion: ...}}",
            )
        if self._price is None:
            return None
        limit = float("inf") if self.max_cost is None else self.max_cost
        return Budget(self._price, limit, self._longest, self._num_tries)


def write_human_sheet(bench: BenchFolder, request: JudgingRequest, *, sheet: Path, seed: int) -> dict[str, object]:
    """Writes a blind sheet of pairs, HTML or, where its name ends so, CSV; the key stands beside it.

    Raises:
        RecipeError: the mode is not one of pairs.
        DataError: what `matches_of` refuses.
    """
    if request.mode == "single":
        raise RecipeError(
            "--mode is single, and people compare pairs",
            fix="--mode pairwise-all, or --mode pairwise-baseline --baseline-model ID",
        )
    matches, _ = matches_of(bench, request)
    key = sheet.with_name(f"{sheet.stem}.key.json")
    count = write_sheet(matches.judged, sheet, key, seed=seed, form="csv" if sheet.suffix == ".csv" else "html")
    return {"pairs": count, "sheet": str(sheet), "key, not to be shown": str(key)}


def read_human_labels(bench: BenchFolder, *, labels: Path, key: Path, name: str) -> dict[str, object]:
    """Adds a filled sheet to `model_judgment/human-NAME_pair.jsonl`.

    Raises:
        DataError: labels or key are wrong, or contradict what the same person said before; names file and line.
        RecipeError: the name cannot name a file.
    """
    judge = judge_of(name)
    path = judgment_file(bench.folder, judge, "pair")
    rows = read_labels(labels, key, name=name, earlier=path)
    write_pair(path, rows)
    return {"judge": judge, "pairs": len(rows), "file": str(path)}


def _left_out(matches: Matches) -> dict[str, object]:
    return {"not_judged": _reasons(matches), "num_empty_answers": len(matches.empty)}


def _reasons(matches: Matches) -> str:
    counts: dict[str, int] = {}
    for one in matches.not_judged:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    return "; ".join(f"{count} x {reason}" for reason, count in sorted(counts.items())) or "none"
