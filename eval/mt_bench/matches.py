"""What a judge is shown: one answer, or two in both orders, for each turn of each question; pure.

Source:
    `gen_judgment.py` of FastChat's llm_judge; Zheng et al. 2023, arXiv:2306.05685.
    Differs: an answer that holds FastChat's error text is listed and not judged, and a question of three or more
    turns is refused unless its first turn alone is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distill.data.records import Message
from distill.errors import DataError
from eval.mt_bench.answer_rows import AnswerRow
from eval.mt_bench.judge_prompts import JudgePrompt, fill
from eval.mt_bench.prompt_sets import Mode, PromptSet
from eval.mt_bench.questions import Question
from eval.mt_bench.verdicts import API_ERROR_TEXT

NEED_REFERENCE = ("math", "reasoning", "coding", "arena-hard-200")
MAX_TURNS = 2

References = Mapping[int, tuple[str, ...]]
Answers = Mapping[str, Mapping[int, AnswerRow]]
"""Answers by model id and question id."""


@dataclass(frozen=True)
class Match:
    """One call of a judge.

    Attributes:
        question: whole, later turns too.
        turn: the turn that is judged, from 1; the judge sees the turns up to it.
        models: the answers' models, in the order of `answers`.
        answers: one, or two in the order shown: slot A first.
        prompt: what the judge is told.
        reference: the turns' reference answers up to `turn`; empty where the prompt shows none.
        reference_set: the name of the set they come from, None where the prompt shows none.
        game: 2 where a pair stands in the order that swaps the comparison's two models, else 1.
        repeat: how often this same call was made before.
    """

    question: Question
    turn: int
    models: tuple[str, ...]
    answers: tuple[AnswerRow, ...]
    prompt: JudgePrompt
    reference: tuple[str, ...]
    reference_set: str | None
    game: Literal[1, 2] = 1
    repeat: int = 0

    @property
    def mode(self) -> Mode:
        """`single` for one answer, `pair` for two."""
        return "single" if len(self.answers) == 1 else "pair"

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The turns of each answer up to the judged one."""
        return tuple(answer.choices[0].turns[: self.turn] for answer in self.answers)

    @property
    def user_prompt(self) -> str:
        """The template, filled in one pass."""
        return fill(self.prompt.prompt_template, self._values())

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is sent to a judge that is a chat model."""
        system = (Message("system", self.prompt.system_prompt),) if self.prompt.system_prompt else ()
        return (*system, Message("user", self.user_prompt))

    def conversation(self, slot: int) -> tuple[Message, ...]:
        """The dialogue that ends in the judged answer of a slot (0 or 1), for judges that read answers themselves."""
        system = () if self.question.system is None else (Message("system", self.question.system),)
        turns = zip(self.question.turns, self.texts[slot], strict=False)
        said = (message for asked, told in turns for message in (Message("user", asked), Message("assistant", told)))
        return (*system, *said)

    def _values(self) -> dict[str, str]:
        values: dict[str, str] = {}
        labels = ("answer",) if self.mode == "single" else ("answer_a", "answer_b")
        for number in range(self.turn):
            values[f"question_{number + 1}"] = self.question.turns[number]
            values |= {f"{label}_{number + 1}": text[number] for label, text in zip(labels, self.texts, strict=True)}
        values |= {f"ref_answer_{number}": text for number, text in enumerate(self.reference, start=1)}
        if self.turn == 1:
            values |= {name.removesuffix("_1"): text for name, text in values.items() if not name.startswith("ref_")}
        return values


@dataclass(frozen=True)
class NotJudged:
    """A turn of a model's answer that no judge is shown, and why."""

    model: str
    question_id: int
    turn: int
    reason: Literal["no answer", "the answer is an error", "a later turn"]


@dataclass(frozen=True)
class Matches:
    """What is judged, what is not, and which of the judged answers are empty: (model, question id, turn)."""

    judged: tuple[Match, ...]
    not_judged: tuple[NotJudged, ...]
    empty: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Judging:
    """What all matches share.

    Attributes:
        questions: unique ids.
        answers: by model id and question id.
        prompts: of the mode.
        references: reference answers by question id; with none, every question is judged without.
        reference_set: the name of `references`; None: there are none.
        later_turns: what becomes of a question of three or more turns: refused, or judged on its first turn, as
            FastChat does.
    """

    questions: Sequence[Question]
    answers: Answers
    prompts: PromptSet
    references: References
    reference_set: str | None
    later_turns: Literal["refuse", "skip"] = "refuse"

    def turns(self) -> Iterator[tuple[Question, int]]:
        """Every judged turn: first all first turns, then the second ones, as FastChat orders them."""
        for turn in range(1, MAX_TURNS + 1):
            for question in self.questions:
                if turn == 1 or len(question.turns) == MAX_TURNS:
                    yield question, turn

    def shown(self, question: Question, turn: int) -> tuple[JudgePrompt, tuple[str, ...], str | None]:
        """Prompt, reference and its set's name for a turn.

        Raises:
            DataError: the category needs a reference that the set lacks, or the reference has too few turns.
        """
        reference = self.references.get(question.question_id, ()) if self.reference_set is not None else ()
        is_needed = self.reference_set is not None and (bool(reference) or question.category in NEED_REFERENCE)
        if is_needed and len(reference) < turn:
            raise DataError(
                f"question {question.question_id} ({question.category}): reference set {self.reference_set} has "
                f"{len(reference)} reference answers, and turn {turn} is judged",
                why="a judge without a reference is not to be trusted here, nor comparable with one that has it",
                fix="add it to the set, choose another set, or judge every question without references",
            )
        prompt = self.prompts.choose(turn=turn, has_reference=bool(reference))
        return prompt, reference[:turn], self.reference_set if reference else None


def single_matches(judging: Judging) -> Matches:
    """Every answer on its own, both turns.

    Raises:
        DataError: a question has too many turns, a reference or a prompt is missing.
    """
    _require_known_shape(judging, mode="single")
    judged = []
    for question, turn in judging.turns():
        prompt, reference, name = judging.shown(question, turn)
        for model in judging.answers:
            answer = _judgeable(judging, model, question, turn)
            if answer is not None:
                judged.append(Match(question, turn, (model,), (answer,), prompt, reference, name))
    return _with_the_rest(judging, judged)


def baseline_matches(judging: Judging, *, baseline: str) -> Matches:
    """Every other model against `baseline`, both turns, both orders; game 1 shows the other model first.

    Raises:
        DataError: as `single_matches`, or the baseline has no answers, or nobody stands against it.
    """
    if baseline not in judging.answers:
        raise DataError(
            f"baseline {baseline} has no answers", why=f"there are: {', '.join(judging.answers)}", fix="name one"
        )
    return _pair_matches(judging, [(model, baseline) for model in judging.answers if model != baseline])


def all_pairs(judging: Judging) -> Matches:
    """Every pair of models once, both turns, both orders.

    Raises:
        DataError: as `single_matches`, or there are fewer than two models.
    """
    models = list(judging.answers)
    return _pair_matches(judging, [(first, second) for i, first in enumerate(models) for second in models[i + 1 :]])


def _pair_matches(judging: Judging, pairs: Sequence[tuple[str, str]]) -> Matches:
    _require_known_shape(judging, mode="pair")
    if not pairs:
        raise DataError("there is one model", why="two are needed for a pair", fix="answer with another model, too")
    judged = []
    for question, turn in judging.turns():
        prompt, reference, name = judging.shown(question, turn)
        for first, second in pairs:
            one, other = (_judgeable(judging, model, question, turn) for model in (first, second))
            if one is not None and other is not None:
                judged.append(Match(question, turn, (first, second), (one, other), prompt, reference, name))
                judged.append(Match(question, turn, (second, first), (other, one), prompt, reference, name, game=2))
    return _with_the_rest(judging, judged)


def _require_known_shape(judging: Judging, *, mode: Mode) -> None:
    if judging.prompts.mode != mode:
        raise DataError(f"the prompts are for mode {judging.prompts.mode}", why=f"mode {mode} is judged")
    long = [question.question_id for question in judging.questions if len(question.turns) > MAX_TURNS]
    if long and judging.later_turns == "refuse":
        raise DataError(
            f"question {long[0]} has more than {MAX_TURNS} turns"
            + (f", and so have {len(long) - 1} others" if len(long) > 1 else ""),
            why="judge prompts show one turn or two",
            fix="cut them, or judge their first turn alone, as FastChat does: later_turns=skip",
        )


def _judgeable(judging: Judging, model: str, question: Question, turn: int) -> AnswerRow | None:
    return None if _fault(judging, model, question, turn) else judging.answers[model][question.question_id]


def _fault(
    judging: Judging, model: str, question: Question, turn: int
) -> Literal["no answer", "the answer is an error"] | None:
    """What keeps an answer from being judged; an error in an earlier turn does, for the later one builds on it."""
    answer = judging.answers[model].get(question.question_id)
    texts = () if answer is None else answer.choices[0].turns[:turn]
    if any(text.strip() == API_ERROR_TEXT for text in texts):
        return "the answer is an error"
    return "no answer" if len(texts) < turn else None


def _with_the_rest(judging: Judging, judged: Sequence[Match]) -> Matches:
    left_out = []
    for question, turn in judging.turns():
        for model in judging.answers:
            fault = _fault(judging, model, question, turn)
            if fault is not None:
                left_out.append(NotJudged(model, question.question_id, turn, fault))
    for question in judging.questions:
        for turn in range(2, len(question.turns) + 1 if len(question.turns) > MAX_TURNS else 2):
            left_out += [NotJudged(model, question.question_id, turn, "a later turn") for model in judging.answers]
    empty = dict.fromkeys(
        (model, match.question.question_id, match.turn)
        for match in judged
        for model, texts in zip(match.models, match.texts, strict=True)
        if not texts[-1].strip()
    )
    return Matches(tuple(judged), tuple(left_out), tuple(empty))
