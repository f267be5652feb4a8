"""How far a principle steers a model: Linear Alignment against prompting alone and against no principle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from distill.data import Conversation, Message
from distill.decoding import (
    Generation,
    Generator,
    LinearAlignmentGenerator,
    LinearAlignmentSettings,
    SamplingSettings,
    TransformersGenerator,
    answer_conversations,
)
from distill.decoding.principle import contexts
from distill.embedded.checker import personalities_shown
from distill.errors import DataError
from distill.models import LoadedModel
from distill.progress import tracked
from distill.settings import Settings
from eval.checkers import checker_for, normalised
from eval.scores import Interval, mean_interval, paired_difference, proportion_interval
from eval.speed.clock import Run, interleaved, shares, spread
from eval.steering_figures import NO_PRINCIPLE, PROMPTING, SteeringArm, SteeringFigures


class SteeringSettings(Settings):
    """Which strengths are compared, on how much."""

    principle: str | None = Field(
        None,
        min_length=1,
        description="system message in place of the dialogue's own; {personality} stands for the asked one",
    )
    system: str | None = Field(
        None,
        min_length=1,
        description="what stands before the principle, and alone where there is none; none: nothing",
    )
    ratios: tuple[Annotated[float, Field(ge=0)], ...] = Field((0, 1, 2, 3, 4, 5), description="each at least 0")
    norm_budgets: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (), description="sizes of the step in place of ratios, in nats"
    )
    norm_order: float = Field(2.0, gt=1, description="p of the norm budgets")
    top_p: float = Field(0.8, gt=0, le=1, description="of the nucleus of the unamplified answer")
    nucleus_temperature: float = Field(0.5, gt=0, description="of that nucleus where answers are greedy")
    sampling: SamplingSettings = Field(SamplingSettings(temperature=0.0, max_new_tokens=64), description="of answers")
    num_conversations: int = Field(300, gt=1, description="test conversations answered")
    num_speed_prompts: int = Field(64, gt=0, description="first turns answered on the clock, as one batch")
    num_speed_rounds: int = Field(3, gt=0, description="measured rounds, in each of which every way of decoding runs")

    @model_validator(mode="after")
    def _one_nucleus(self) -> Self:
        if self.sampling.top_p < 1 or self.sampling.top_k:
            raise ValueError("sampling.top_p or sampling.top_k is set: tokens are chosen in the nucleus of top_p alone")
        if self.system is not None and self.principle is None:
            raise ValueError("system is set, but no principle that could stand after it")
        return self

    def alignments(self) -> dict[str, LinearAlignmentSettings]:
        """Linear Alignment at each strength, by the name of its row."""
        cut = LinearAlignmentSettings(
            contrast=self.system, top_p=self.top_p, nucleus_temperature=self.nucleus_temperature
        )
        found = {f"ratio {ratio:g}": cut.model_copy(update={"ratio": ratio}) for ratio in self.ratios}
        for budget in self.norm_budgets:
            spent = {"norm_budget": budget, "norm_order": self.norm_order}
            found[f"norm budget {budget:g}"] = cut.model_copy(update=spent)
        return found


@dataclass(frozen=True)
class OneReading:
    """Answers dialogues as they are, or with `contrast`, if anything, in place of their system message."""

    inner: Generator
    with_principle: bool
    contrast: str | None = None

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts."""
        side = 0 if self.with_principle else 1
        readings = [contexts(prompt, None, contrast=self.contrast)[side] for prompt in prompts]
        return self.inner.generate(readings, settings, seed=seed)


@dataclass(frozen=True)
class TurnMarks:
    """What one answer reached."""

    personality: bool
    scenario: bool
    both: bool


def steering_figures(
    loaded: LoadedModel, conversations: Sequence[Conversation], settings: SteeringSettings, *, seed: int
) -> SteeringFigures:
    """Answers the conversations in every way, and sums up.

    Args:
        loaded: the model that is steered.
        conversations: with a system message, or `settings.principle` in its place; their facts tell the personality.
        settings: strengths and sizes.
        seed: of draws and intervals.

    Raises:
        DataError: a conversation has no system message, no checker, or its facts name no personality.
    """
    asked = [
        with_principle(one, settings.principle, system=settings.system)
        for one in conversations[: settings.num_conversations]
    ]
    plain, alignments = TransformersGenerator(loaded), settings.alignments()
    ways: dict[str, Generator] = {
        NO_PRINCIPLE: OneReading(plain, with_principle=False, contrast=settings.system),
        PROMPTING: OneReading(plain, with_principle=True),
        **{name: LinearAlignmentGenerator(loaded, alignment) for name, alignment in alignments.items()},
    }
    mark = marker(conversations)
    marks: dict[str, list[list[TurnMarks]]] = {}
    with tracked("ways of decoding", len(ways)) as progress:
        for name, generator in ways.items():
            answers = answer_conversations(generator, asked, settings.sampling, seed=seed)
            marks[name] = [mark(one, turns) for one, turns in zip(asked, answers, strict=True)]
            progress.advance()
    seconds = _seconds_per_token(ways, asked, settings)
    arms = tuple(_arm(name, asked, marks, seconds, alignment=alignments.get(name), seed=seed) for name in ways)
    return SteeringFigures(described=_described(asked, settings), arms=arms)


def with_principle(conversation: Conversation, principle: str | None, *, system: str | None = None) -> Conversation:
    """The conversation with another system message; `{personality}` becomes the personality that its facts ask for.

    Raises:
        DataError: the facts name no personality.
    """
    personality = conversation.facts.get("personality")
    if not isinstance(personality, str):
        raise DataError(
            f"conversation {conversation.id}: facts.personality is {personality!r}",
            why="without it, nothing says whom an answer should speak as",
            fix="read data whose facts name a personality: data.source=embedded or personality-chat",
        )
    if principle is None:
        return conversation
    asked = principle.replace("{personality}", personality)
    told = Message("system", asked if system is None else f"{system}\n\n{asked}")
    turns = [message for message in conversation.messages if message.role != "system"]
    return replace(conversation, messages=(told, *turns))


def marker(conversations: Sequence[Conversation]) -> Callable[[Conversation, Sequence[Generation]], list[TurnMarks]]:
    """What judges answers.

    In the embedded world an answer speaks as the personality whose words it uses, if it is the only one. Where all
    right answers are known, it does when it is word for word one of that personality's answers to any question.
    """
    books: dict[str, set[str]] = {}
    for conversation in conversations:
        answers = conversation.facts.get("answers")
        for personality, answer in answers.items() if isinstance(answers, Mapping) else ():
            books.setdefault(str(personality), set()).add(normalised(str(answer)))

    def speaks_as(personality: str, text: str) -> bool:
        return normalised(text) in books[personality] if books else personalities_shown(text) == {personality}

    def marks(conversation: Conversation, answers: Sequence[Generation]) -> list[TurnMarks]:
        checker = checker_for(conversation)
        if checker is None:
            raise DataError(f"conversation {conversation.id} names no checker", why="its answers cannot be judged")
        verdicts = [checker.check(conversation, turn, answer.text) for turn, answer in enumerate(answers)]
        personality = str(conversation.facts["personality"])
        return [
            TurnMarks(
                speaks_as(personality, answer.text),
                set(verdict.reasons) <= {"personality"},
                verdict.is_right and not verdict.reasons,
            )
            for answer, verdict in zip(answers, verdicts, strict=True)
        ]

    return marks


def _arm(
    name: str,
    asked: Sequence[Conversation],
    marks: Mapping[str, list[list[TurnMarks]]],
    seconds: Mapping[str, list[float]],
    *,
    alignment: LinearAlignmentSettings | None,
    seed: int,
) -> SteeringArm:
    own, base = _personality(marks[name]), _personality(marks[PROMPTING])
    rows: dict[str, list[int]] = {}
    for row, conversation in enumerate(asked):
        rows.setdefault(str(conversation.facts["personality"]), []).append(row)
    compared = {} if name == PROMPTING else {who: _difference(own, base, which, seed) for who, which in rows.items()}
    return SteeringArm(
        name=name,
        ratio=None if alignment is None else alignment.ratio,
        norm_budget=None if alignment is None else alignment.norm_budget,
        personality=_interval(own, seed=seed),
        scenario=_interval([[float(turn.scenario) for turn in turns] for turns in marks[name]], seed=seed),
        both=_interval([[float(turn.both) for turn in turns] for turns in marks[name]], seed=seed),
        difference=None if name == PROMPTING else _difference(own, base, range(len(own)), seed),
        by_personality={who: _interval([own[row] for row in which], seed=seed) for who, which in rows.items()},
        differences=compared,
        ms_per_token=spread([1000 * value for value in seconds[name]]),
        cost=None if name == PROMPTING else shares(seconds[PROMPTING], seconds[name]),
    )


def _personality(marks: Sequence[Sequence[TurnMarks]]) -> list[list[float]]:
    return [[float(turn.personality) for turn in turns] for turns in marks]


def _difference(
    own: Sequence[Sequence[float]], base: Sequence[Sequence[float]], rows: Sequence[int], seed: int
) -> Interval:
    """Paired by answer, resampled by conversation."""
    first = [value for row in rows for value in own[row]]
    second = [value for row in rows for value in base[row]]
    clusters = [row for row in rows for _ in own[row]]
    return paired_difference(first, second, clusters=clusters, seed=seed).difference


def _interval(values: Sequence[Sequence[float]], *, seed: int) -> Interval:
    """By conversation; Wilson's where all answers are alike, which leaves a resampled one no width."""
    seen = {value for cluster in values for value in cluster}
    if len(seen) > 1:
        return mean_interval(values, seed=seed)
    return proportion_interval(round(seen.pop()) * len(values), len(values))


def _seconds_per_token(
    ways: Mapping[str, Generator], asked: Sequence[Conversation], settings: SteeringSettings
) -> dict[str, list[float]]:
    """Seconds a token of each round, every way in turn, on first turns answered as one batch."""
    prompts = [one.messages[:2] for one in asked[: settings.num_speed_prompts]]
    sampling = settings.sampling.model_copy(update={"batch_size": len(prompts)})
    num_tokens: dict[str, int] = {}

    def run_of(name: str, generator: Generator) -> Run:
        def run() -> None:
            num_tokens[name] = sum(answer.num_tokens for answer in generator.generate(prompts, sampling, seed=0))

        return Run(run)

    elapsed_s = interleaved(
        {name: run_of(name, generator) for name, generator in ways.items()}, num_repeats=settings.num_speed_rounds
    )
    return {name: [value / num_tokens[name] for value in values] for name, values in elapsed_s.items()}


def _described(asked: Sequence[Conversation], settings: SteeringSettings) -> str:
    principle = "the system message" if settings.principle is None else f"“{settings.principle}”"
    principle += "" if settings.system is None else f" after “{settings.system}”"
    how = "greedy" if settings.sampling.temperature == 0 else f"temperature {settings.sampling.temperature:g}"
    heat = settings.sampling.temperature or settings.nucleus_temperature
    num_turns = sum(len(one.user_turns) for one in asked)
    return (
        f"{num_turns:,} answers in {len(asked):,} held-out conversations, principle: {principle}; {how}, nucleus"
        f" {settings.top_p:g} of the unamplified answer at temperature {heat:g}; 95 % intervals resampled by"
        " conversation, differences paired; costs as median [lowest, highest] of interleaved rounds"
    )
