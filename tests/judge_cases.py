"""Small benchmarks to judge: questions, answers that say which model and turn they are of, prompts of each kind."""

from collections.abc import Iterator, Sequence

from eval.judges.base import JudgeReply
from eval.mt_bench.answer_rows import AnswerRow, Choice
from eval.mt_bench.judge_prompts import JudgePrompt
from eval.mt_bench.matches import Judging, Match, all_pairs, single_matches
from eval.mt_bench.prompt_sets import Mode, prompt_set
from eval.mt_bench.questions import Question

SINGLE = {
    "own": "Q {question} A {answer}",
    "own-reference": "Q {question} R {ref_answer_1} A {answer}",
    "own-turns": "Q1 {question_1} A1 {answer_1} Q2 {question_2} A2 {answer_2}",
    "own-reference-turns": "R {ref_answer_1} {ref_answer_2} A1 {answer_1} Q2 {question_2} A2 {answer_2}",
}
PAIR = {
    "duel": "Q {question} A {answer_a} B {answer_b}",
    "duel-reference": "R {ref_answer_1} A {answer_a} B {answer_b}",
    "duel-turns": "Q {question_1} {question_2} A {answer_a_1} {answer_a_2} B {answer_b_1} {answer_b_2}",
    "duel-reference-turns": "R {ref_answer_1} {ref_answer_2} A {answer_a_1} {answer_a_2} B {answer_b_1} {answer_b_2}",
}
PROMPTS = {
    name: JudgePrompt(name, kind, "Be fair.", template, "", "general", form)
    for templates, kind, form in ((SINGLE, "single", "[[rating]]"), (PAIR, "pairwise", "[[A]]"))
    for name, template in templates.items()
}


def question(number: int, *, category: str = "writing", turns: int = 2) -> Question:
    return Question(number, category, tuple(f"ask {number}.{turn}" for turn in range(1, turns + 1)))


def answer(number: int, model: str, *texts: str) -> AnswerRow:
    return AnswerRow(number, "id", model, (Choice(0, texts or (f"{model} {number}.1", f"{model} {number}.2")),), 1.0)


def judging(mode: Mode, *, num_questions: int = 2, models: Sequence[str] = ("m",), **changes: object) -> Judging:
    questions = [question(number) for number in range(1, num_questions + 1)]
    answers = {model: {q.question_id: answer(q.question_id, model) for q in questions} for model in models}
    values: dict = {"questions": questions, "answers": answers, "references": {}, "reference_set": None}
    return Judging(**({"prompts": prompt_set(PROMPTS, mode=mode)} | values | changes))


def singles(num_questions: int = 2, models: Sequence[str] = ("m",)) -> tuple[Match, ...]:
    return single_matches(judging("single", num_questions=num_questions, models=models)).judged


def pairs(num_questions: int = 2, models: Sequence[str] = ("a", "b")) -> tuple[Match, ...]:
    return all_pairs(judging("pair", num_questions=num_questions, models=models)).judged


class ScriptedJudge:
    """Replies from a list, the last one for ever; keeps what it was asked; may finish in another order."""

    def __init__(
        self, *replies: JudgeReply | str | BaseException, name: str = "script", backwards: bool = False
    ) -> None:
        self.name, self.identity, self._backwards = name, {"kind": "script"}, backwards
        self._replies = list(replies)
        self.asked: list[Match] = []

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        for index in range(len(matches))[:: -1 if self._backwards else 1]:
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            if isinstance(reply, BaseException):
                raise reply
            self.asked.append(matches[index])
            yield index, JudgeReply(reply, "stop", model="served-1") if isinstance(reply, str) else reply
