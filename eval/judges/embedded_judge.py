"""Judges for the embedded world, made in seconds and measured against its checker, which knows what is right.

The reward model is a head on the shipped teacher's frozen states, fitted on right and wrong answers drawn from the
world. The teacher itself as a logit judge never learnt to judge. Measured: the head is right on 69 % of 404 held-out
pairs, and on 70 % [60, 80] of the 80 questions' first turns; the teacher as a logit judge on 49 % [48, 51], a coin that
says B in 154 of 160 games. They show that the machinery works, not how good a student is.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from distill.data import PreferencePair
from distill.data.records import messages_from
from distill.embedded import check_answer, draw
from distill.models import LoadedModel, load_model
from distill.reward import FittedReward, RewardFitSettings, fit_reward_model, pair_accuracy
from eval.judges.base import Judge
from eval.mt_bench.answer_rows import AnswerRow, Choice
from eval.mt_bench.judge_prompts import JudgePrompt
from eval.mt_bench.matches import Match
from eval.mt_bench.questions import Question
from eval.scores import Interval, mean_interval

SAME_INTENT_SHARE = 0.7
_TRIES = 10
RIGHT, WRONG = "right", "wrong"

# Short: the teacher reads 512 tokens.
SHORT_PROMPTS: Mapping[str, JudgePrompt] = {
    "single": JudgePrompt(
        name="embedded-single",
        type="single",
        system_prompt="You rate the answers of a cafe's assistant.",
        prompt_template="Rate this answer from 1 (wrong) to 10 (right).\n\n{question}\n\n{answer}",
        description="our own short prompt for rating one answer",
        category="general",
        output_format="[[rating]]",
    ),
    "pair": JudgePrompt(
        name="embedded-pair",
        type="pairwise",
        system_prompt="You compare the answers of a cafe's assistants.",
        prompt_template="Which answer is better? A, B, or C for a tie.\n\n{question}\n\nA: {answer_a}\n\nB: {answer_b}",
        description="our own short prompt for comparing two answers",
        category="general",
        output_format="[[A]]",
    ),
}
"""One turn; first turns only."""


@dataclass(frozen=True)
class EmbeddedReward:
    """A reward model for the embedded world, and its accuracy on pairs of another split."""

    fitted: FittedReward
    accuracy: float
    num_held_out: int


def embedded_pairs(split: str, *, num_dialogues: int, seed: int) -> list[PreferencePair]:
    """Every turn's right answer against a wrong one that the world gives elsewhere.

    Seven in ten wrong answers are to the same kind of question (other drinks, sums, days, another personality), the
    rest to any. Turns for which none is found that the checker calls wrong are left out.

    Raises:
        DataError: the split is unknown or has fewer dialogues.
    """
    dialogues = [cast(dict[str, Any], row) for row in draw(split, num_dialogues=num_dialogues, seed=seed)]
    by_intent: dict[str, list[str]] = defaultdict(list)
    for dialogue in dialogues:
        for turn, (_, answer) in zip(dialogue["facts"]["turns"], _answers(dialogue), strict=True):
            by_intent[turn["intent"]].append(answer)
    every = [answer for answers in by_intent.values() for answer in answers]
    chance, pairs = random.Random(f"{split}/{seed}"), []
    for dialogue in dialogues:
        for turn, (position, right) in enumerate(_answers(dialogue)):
            intent = dialogue["facts"]["turns"][turn]["intent"]
            pool = by_intent[intent] if chance.random() < SAME_INTENT_SHARE else every
            wrong = next((a for a in chance.choices(pool, k=_TRIES) if not _is_right(dialogue, turn, a)), None)
            if wrong is not None:
                where = f"{dialogue['id']}:{turn}"
                prompt = messages_from(dialogue["messages"][:position], where=where)
                pairs.append(PreferencePair(where, prompt, right, wrong))
    return pairs


def embedded_reward(
    body: LoadedModel | None = None,
    *,
    num_dialogues: int = 400,
    num_held_out: int = 150,
    seed: int = 0,
    settings: RewardFitSettings | None = None,
) -> EmbeddedReward:
    """Fits a head on the shipped teacher (or another body) and measures it on pairs of the split `valid`.

    Raises:
        ModelError: the package was installed without the teacher.
    """
    body = body or load_model("embedded", device="cpu")
    fitted = fit_reward_model(body, embedded_pairs("prompts", num_dialogues=num_dialogues, seed=seed), settings)
    held_out = embedded_pairs("valid", num_dialogues=num_held_out, seed=seed)
    return EmbeddedReward(fitted, pair_accuracy(fitted.model, held_out), len(held_out))


def right_against_wrong(questions: Sequence[Question], *, seed: int) -> list[Match]:
    """Both orders of each question's right first answer against another question's, which the checker calls wrong."""
    chance, matches = random.Random(seed), []
    for question in questions:
        others = [other for other in questions if not _answers_rightly(question, other.reference[0])]
        wrong = chance.choice(others).reference[0]
        rows = (_row(question, RIGHT, question.reference[0]), _row(question, WRONG, wrong))
        prompt = SHORT_PROMPTS["pair"]
        matches.append(Match(question, 1, (RIGHT, WRONG), rows, prompt, (), None))
        matches.append(Match(question, 1, (WRONG, RIGHT), rows[::-1], prompt, (), None, game=2))
    return matches


def checker_agreement(judge: Judge, matches: Sequence[Match], *, seed: int) -> Interval:
    """Share of games that a judge gives to the right answer, a tie being half, resampled by question.

    Args:
        judge: any that judges pairs.
        matches: of `right_against_wrong`.
        seed: of the interval.
    """
    points: dict[int, list[float]] = defaultdict(list)
    for index, reply in judge.judge(matches):
        winner = None if reply.verdict is None else reply.verdict.winner
        models = matches[index].models
        right = "A" if models[0] == RIGHT else "B"
        points[matches[index].question.question_id].append(0.5 if winner == "tie" else float(winner == right))
    return mean_interval(list(points.values()), seed=seed)


def _answers(dialogue: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Where each answer stands, and what it says."""
    return [(i, message["content"]) for i, message in enumerate(dialogue["messages"]) if message["role"] == "assistant"]


def _is_right(dialogue: Mapping[str, Any], turn: int, answer: str) -> bool:
    return check_answer(dialogue["facts"], turn, answer).is_right


def _answers_rightly(question: Question, answer: str) -> bool:
    return check_answer(question.facts, 0, answer).is_right


def _row(question: Question, model: str, answer: str) -> AnswerRow:
    return AnswerRow(question.question_id, f"{question.question_id}-{model}", model, (Choice(0, (answer,)),), 0.0)
