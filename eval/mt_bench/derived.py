"""FastChat's judgment files, made whole from the stored calls of a judge; the same calls give the same bytes."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from eval.mt_bench.call_store import Call
from eval.mt_bench.judgments import PairJudgment, SingleJudgment, stored_score, stored_winner
from eval.mt_bench.verdicts import Verdict, Winner, read_score, read_winner, verdict_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What a run asks for, as far as the choice among stored calls needs it.

    Attributes:
        keys: by slot (`Call.slot`).
        games: by slot: a pair may have been judged before with its models named the other way round.
        judge_sha: of the judge.
        prompt_shas: of its prompts, by name.
        question_shas: by question id and turn.
        reference_set: None: no references.
    """

    keys: Mapping[tuple[object, ...], str]
    games: Mapping[tuple[object, ...], int]
    judge_sha: str
    prompt_shas: Mapping[str, str]
    question_shas: Mapping[tuple[int, int], str]
    reference_set: str | None


def chosen_calls(calls: Iterable[Call], asked: Asked) -> list[Call]:
    """The done calls that belong into one file, at most one for each slot.

    Where the run asks for a slot, it is the call of just that key. Slots it does not ask for (another model, another
    question, judged before) keep their latest call, if it was made by the same judge, with the same prompt, of the
    same question, with references of the same set: verdicts of different settings never stand in one file.
    """
    chosen: dict[tuple[object, ...], Call] = {}
    num_left_out = 0
    for call in calls:
        if call.status != "done":
            continue
        if _belongs(call, asked):
            chosen[call.slot] = replace(call, game=asked.games.get(call.slot, call.game))
        else:
            num_left_out += 1
    if num_left_out:
        log.info("%d stored verdicts were made of other answers or under other settings, and stay out", num_left_out)
    return list(chosen.values())


def verdict_of(call: Call) -> Verdict:
    """A done call's verdict: the judge's own, or read from its words; words that were cut off hold none."""
    own = call.own_verdict
    if own is not None:
        score, winner = own["score"], own["winner"]
        status = cast(Literal["ok", "ambiguous", "unscored"], own["status"])
        return Verdict(status, str(own["rule"]), None, cast(float | None, score), cast(Winner | None, winner))
    if call.finish_reason == "length":
        return Verdict("unscored", "cut_off", None)
    return _read(call, call.text)


def judgment_text(call: Call) -> str:
    """The words of FastChat's row, which read back as just the call's verdict.

    Words that were cut off, or of a judge whose own verdict is that there is none, are left out where a verdict could
    be read from them; the store keeps them.
    """
    verdict, read = verdict_of(call), _read(call, call.text)
    if (verdict.score, verdict.winner) == (read.score, read.winner):
        return call.text
    if verdict.score is None and verdict.winner is None:
        return ""
    return f"{call.text}\n\n{verdict_text(verdict)}".lstrip()


def single_rows(calls: Iterable[Call], *, judge_name: str) -> list[SingleJudgment]:
    """The rows of `<judge>_single.jsonl`; of repeated calls the first."""
    return [
        SingleJudgment(
            question_id=call.question_id,
            model=call.models[0],
            judge=(judge_name, call.prompt),
            user_prompt=call.user_prompt,
            judgment=judgment_text(call),
            score=stored_score(verdict_of(call)),
            turn=call.turn,
            tstamp=call.tstamp,
        )
        for call in calls
        if call.repeat == 0
    ]


def pair_rows(calls: Iterable[Call], *, judge_name: str) -> list[PairJudgment]:
    """The rows of `<judge>_pair.jsonl` for which both games are there; of repeated calls the first."""
    played: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in calls:
        if call.repeat == 0:
            played[call.question_id, call.turn, *sorted(call.models)].append(call)
    rows = []
    for games in played.values():
        if len(games) < 2:
            continue
        one, other = sorted(games, key=lambda call: call.models)
        first, second = (one, other) if one.game == 1 else (other, one)
        rows.append(
            PairJudgment(
                question_id=first.question_id,
                model_1=first.models[0],
                model_2=first.models[1],
                g1_winner=stored_winner(verdict_of(first), game=1),
                g2_winner=stored_winner(verdict_of(second), game=2),
                judge=(judge_name, first.prompt),
                g1_user_prompt=first.user_prompt,
                g1_judgment=judgment_text(first),
                g2_user_prompt=second.user_prompt,
                g2_judgment=judgment_text(second),
                turn=first.turn,
                tstamp=max(first.tstamp, second.tstamp),
            )
        )
    return rows


def _read(call: Call, text: str) -> Verdict:
    return read_score(text) if len(call.models) == 1 else read_winner(text, output_format=call.output_format)


def _belongs(call: Call, asked: Asked) -> bool:
    if call.slot in asked.keys:
        return asked.keys[call.slot] == call.key
    return (
        call.judge_sha == asked.judge_sha
        and asked.prompt_shas.get(call.prompt) == call.prompt_sha
        and asked.question_shas.get((call.question_id, call.turn), call.question_sha) == call.question_sha
        and call.reference_set in (None, asked.reference_set)
    )
