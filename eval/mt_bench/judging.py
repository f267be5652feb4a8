"""The judging loop: what is not judged yet is asked, every reply is on the disk at once, FastChat's files follow.

A run that is killed goes on where it stopped. A failed call is not asked again until it is asked for, and is never
a verdict.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from distill.errors import DataError, EndpointError, RecipeError
from distill.files import fingerprint, write_json
from distill.progress import tracked
from eval.agreement import is_person
from eval.judges.base import Judge, JudgeReply, call_key
from eval.mt_bench.call_store import Call, CallStore, latest_calls, open_calls, read_calls
from eval.mt_bench.derived import Asked, chosen_calls, pair_rows, single_rows, verdict_of
from eval.mt_bench.failures import MAX_FAILURE_RATE
from eval.mt_bench.judging_cost import Budget, JudgingPlan, OutOfBudget, Price, cost_of, judging_plan
from eval.mt_bench.judging_gates import require_all_asked, require_verdicts
from eval.mt_bench.judgments import write_pair, write_single
from eval.mt_bench.layout import judgment_file
from eval.mt_bench.matches import Match
from eval.mt_bench.provenance import judging_provenance
from eval.mt_bench.repeats import repeated_verdicts, repeats_file, write_repeats

log = logging.getLogger(__name__)

Keyed = Mapping[str, Match]


@dataclass(frozen=True)
class Judged:
    """What a run left behind; counts are of all calls it was asked for, those of earlier runs too.

    Attributes:
        judgments: FastChat's file.
        calls: the store.
        meta: the provenance.
        num_asked: calls that this run made.
        cost: of this run's calls, None without a price.
    """

    judgments: Path
    calls: Path
    meta: Path
    num_calls: int
    num_ok: int
    num_ambiguous: int
    num_unscored: int
    num_failed: int
    num_missing: int
    num_asked: int
    cost: float | None


def judge_matches(
    judge: Judge,
    matches: Sequence[Match],
    output_dir: Path,
    *,
    repeats: int = 1,
    retry_failed: bool = False,
    max_failure_rate: float = MAX_FAILURE_RATE,
    budget: Budget | None = None,
    provenance: Mapping[str, object] | None = None,
    clock: Callable[[], float] = time.time,
) -> Judged:
    """Judges what is not judged yet, and writes FastChat's file and its provenance from all that is.

    Args:
        judge: who judges.
        matches: of one mode.
        output_dir: the benchmark's folder; files stand in its `model_judgment`.
        repeats: how often each match is judged; FastChat's file holds the first time, `repeats_file` all.
        retry_failed: asks again what failed before or has no verdict; the later reply counts.
        max_failure_rate: share of a model's calls that may end without a verdict.
        budget: stops before a call that might go over it.
        provenance: what the inputs were: checksums, what was not judged and why.
        clock: seconds since 1970.

    Raises:
        RecipeError: nothing is to be judged, or an option is out of range.
        DataError: the store is damaged, or a judgment file of other origin stands in the way.
        StageError: another process judges into the same files, or the disk is full.
        EndpointError: the judge's server cannot be asked any more; what it answered is kept.
        GateError: the budget is spent, or too many calls ended without a verdict; all files are written.
    """
    keyed, path = _keyed(judge, matches, repeats=repeats), _judgment_path(judge, matches, output_dir)
    if not 0.0 <= max_failure_rate <= 1.0:
        raise RecipeError(f"max_failure_rate is {max_failure_rate}", why="a share from 0 to 1 was expected", fix="0.02")
    calls_path = path.with_suffix(".calls.jsonl")
    if path.exists() and not calls_path.exists():
        raise DataError(
            f"{path} was not made from {calls_path.name}, which does not exist",
            why="it would be overwritten, with judgments that are nowhere else",
            fix="move it away, or give the judge another name",
        )
    with open_calls(calls_path) as store:
        pending, before = _pending(keyed, store.calls, retry_failed=retry_failed), len(store.calls)

        def finish() -> Judged:
            asked = store.calls[before:]
            return _write(judge, keyed, store.calls, path, asked=asked, budget=budget, provenance=provenance or {})

        try:
            stopped = _ask(judge, pending, store, budget=budget, clock=clock)
        except (EndpointError, KeyboardInterrupt):
            finish()
            raise
        judged, latest = finish(), latest_calls(store.calls)
        require_all_asked(judged.num_missing, of=judged.num_calls, stopped=stopped)
        require_verdicts(
            judge.name,
            [(match.models, latest.get(key)) for key, match in keyed.items()],
            max_failure_rate=max_failure_rate,
            store=calls_path,
        )
    return judged


def plan_judging(
    judge: Judge,
    matches: Sequence[Match],
    output_dir: Path,
    *,
    max_completion_tokens: int,
    num_tries: int = 1,
    repeats: int = 1,
    retry_failed: bool = False,
    price: Price | None = None,
) -> JudgingPlan:
    """What `judge_matches` would do and cost; asks nothing and writes nothing. Arguments as there and in `Budget`."""
    keyed = _keyed(judge, matches, repeats=repeats)
    calls = read_calls(_judgment_path(judge, matches, output_dir).with_suffix(".calls.jsonl"))
    states = latest_calls(calls)
    return judging_plan(
        list(_pending(keyed, calls, retry_failed=retry_failed).values()),
        num_calls=len(keyed),
        num_done=sum(key in states and states[key].status == "done" for key in keyed),
        num_failed_before=sum(key in states and states[key].status == "failed" for key in keyed),
        max_completion_tokens=max_completion_tokens,
        num_tries=num_tries,
        price=price,
    )


def pending_matches(
    judge: Judge, matches: Sequence[Match], output_dir: Path, *, repeats: int = 1, retry_failed: bool = False
) -> dict[str, Match]:
    """What `judge_matches` would ask, by key, for a judge who works elsewhere (a batch, people)."""
    calls = read_calls(_judgment_path(judge, matches, output_dir).with_suffix(".calls.jsonl"))
    return _pending(_keyed(judge, matches, repeats=repeats), calls, retry_failed=retry_failed)


def _judgment_path(judge: Judge, matches: Sequence[Match], output_dir: Path) -> Path:
    if is_person(judge.name):
        raise RecipeError(
            f"a judge is named {judge.name}",
            why="names that begin with human- are people's, whose votes are counted apart",
            fix="--judge-name NAME",
        )
    modes = {match.mode for match in matches}
    if len(modes) != 1:
        problem = "there is nothing to judge" if not modes else "single answers and pairs are judged together"
        raise RecipeError(problem, why="a judgment file holds one mode", fix="choose models with answers, and one mode")
    return judgment_file(output_dir, judge.name, modes.pop())


def _keyed(judge: Judge, matches: Sequence[Match], *, repeats: int) -> dict[str, Match]:
    if repeats < 1:
        raise RecipeError(f"repeats is {repeats}", why="every match is judged at least once", fix="repeats=1")
    repeated = (replace(match, repeat=number) for number in range(repeats) for match in matches)
    return {call_key(judge, match): match for match in repeated}


def _pending(keyed: Keyed, calls: Sequence[Call], *, retry_failed: bool) -> dict[str, Match]:
    settled = {key for key, call in latest_calls(calls).items() if not (retry_failed and _is_failure(call))}
    return {key: match for key, match in keyed.items() if key not in settled}


def _is_failure(call: Call) -> bool:
    """Whether a call brought no reply, or none with a verdict in it."""
    return call.status == "failed" or verdict_of(call).status == "unscored"


def _ask(
    judge: Judge, pending: Keyed, store: CallStore, *, budget: Budget | None, clock: Callable[[], float]
) -> OutOfBudget | None:
    """Asks in blocks that the budget surely covers; without a budget, in one. Says where the budget ended it."""
    keys, matches, start, spent = list(pending), list(pending.values()), 0, 0.0
    log.info("judge %s: %d calls to make", judge.name, len(matches))
    with tracked(f"verdicts of {judge.name}", len(matches)) as tracker:
        while start < len(matches):
            left = matches[start:]
            block = left if budget is None else left[: budget.affordable(left, spent=spent)]
            if budget is not None and not block:
                return OutOfBudget(budget.max_cost, spent, budget.most(left[0]))
            replies, unanswered = judge.judge(block), set(range(len(block)))
            try:
                for index, reply in replies:
                    unanswered.remove(index)
                    call = _call(judge, keys[start + index], block[index], reply, tstamp=clock())
                    store.append(call)
                    if budget is not None:
                        spent += budget.spent_on(block[index], call, is_refused=reply.is_refused)
                    tracker.advance(figures={} if budget is None else {"cost": spent})
            finally:
                if isinstance(replies, Generator):
                    replies.close()
            start += len(block)
    return None


def _call(judge: Judge, key: str, match: Match, reply: JudgeReply, *, tstamp: float) -> Call:
    own = reply.verdict
    return Call(
        key=key,
        status="done" if reply.error is None else "failed",
        judge_sha=fingerprint(dict(judge.identity)),
        prompt_sha=fingerprint(match.prompt.to_json()),
        question_sha=_question_sha(match),
        reference_set=match.reference_set,
        question_id=match.question.question_id,
        turn=match.turn,
        models=match.models,
        game=match.game,
        repeat=match.repeat,
        prompt=match.prompt.name,
        output_format=match.prompt.output_format,
        user_prompt=match.user_prompt,
        own_verdict=None
        if own is None
        else {"status": own.status, "rule": own.rule, "score": own.score, "winner": own.winner},
        tstamp=tstamp,
        **{name: value for name, value in asdict(reply).items() if name not in ("verdict", "is_refused")},
    )


def _question_sha(match: Match) -> str:
    return fingerprint([match.question.system, match.question.turns[: match.turn], match.reference])


def _write(
    judge: Judge,
    keyed: Keyed,
    calls: Sequence[Call],
    path: Path,
    *,
    asked: Sequence[Call],
    budget: Budget | None,
    provenance: Mapping[str, object],
) -> Judged:
    """FastChat's file, whole, then what it was made from."""
    matches = keyed.values()
    slots = {key: (m.question.question_id, m.turn, m.models, m.repeat) for key, m in keyed.items()}
    chosen = chosen_calls(
        calls,
        Asked(
            keys={slot: key for key, slot in slots.items()},
            games={slots[key]: match.game for key, match in keyed.items()},
            judge_sha=fingerprint(dict(judge.identity)),
            prompt_shas={match.prompt.name: fingerprint(match.prompt.to_json()) for match in matches},
            question_shas={(m.question.question_id, m.turn): _question_sha(m) for m in matches},
            reference_set=next((m.reference_set for m in matches if m.reference_set is not None), None),
        ),
    )
    chosen.sort(key=lambda call: (call.question_id, call.turn, call.models, call.repeat))
    if not chosen:
        path.unlink(missing_ok=True)
    elif next(iter(matches)).mode == "single":
        write_single(path, single_rows(chosen, judge_name=judge.name))
    else:
        write_pair(path, pair_rows(chosen, judge_name=judge.name))
    write_repeats(repeats_file(path), repeated_verdicts(chosen))
    states = latest_calls(calls)
    found = [states[key] for key in keyed if key in states]
    verdicts = Counter(verdict_of(call).status for call in found if call.status == "done")
    judged = Judged(
        judgments=path,
        calls=path.with_suffix(".calls.jsonl"),
        meta=path.with_suffix(".meta.json"),
        num_calls=len(keyed),
        num_ok=verdicts["ok"],
        num_ambiguous=verdicts["ambiguous"],
        num_unscored=verdicts["unscored"],
        num_failed=sum(call.status == "failed" for call in found),
        num_missing=len(keyed) - len(found),
        num_asked=len(asked),
        cost=None if budget is None else sum(cost_of(call, budget.price) for call in asked),
    )
    write_json(judged.meta, judging_provenance(judge, matches, chosen, found, judgments=path, inputs=provenance))
    return judged
