"""Answers chosen by a reward: the teacher's best of n, and pairs that the reward ranks as they are labelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from distill.data import Message
from distill.decoding import Generation, Generator, SamplingSettings
from distill.reward import Scorer
from distill.settings import Settings


class RewardedSettings(Settings):
    """What a reward model does for the pairs."""

    model: Path | None = Field(
        None, description="folder of a reward model or an EBRM; none: the one that the recipe's stage `reward` makes"
    )
    num_answers: int = Field(1, gt=0, description="the teacher gives the best of so many answers, by reward")
    drops_conflicts: bool = Field(True, description="drop pairs whose rejected answer has the same or a higher reward")
    margin: float = Field(0.0, ge=0, description="by how much the chosen answer's reward must be higher")


def fits(scorer: Scorer, conversation: Sequence[Message]) -> bool:
    """Whether the scorer reads the whole conversation."""
    return scorer.max_length_tokens is None or len(scorer.encode(conversation)) <= scorer.max_length_tokens


@dataclass(frozen=True)
class BestOfN:
    """Answers with the best of `num_answers`, by reward; see `distill.decoding.Generator`.

    Of equal rewards the first drawn wins. An empty or unfinished answer, or one too long for the scorer, is chosen
    only where all are such; the first drawn then.
    """

    inner: Generator
    scorer: Scorer
    num_answers: int

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts."""
        asked = [prompt for prompt in prompts for _ in range(self.num_answers)]
        drawn = self.inner.generate(asked, settings, seed=seed)
        read = [(*prompt, Message("assistant", answer.text)) for prompt, answer in zip(asked, drawn, strict=True)]
        rewards = [-float("inf")] * len(drawn)
        scored = [
            index
            for index, answer in enumerate(drawn)
            if answer.text.strip() and answer.finish_reason == "stop" and fits(self.scorer, read[index])
        ]
        for index, reward in zip(scored, self.scorer.score([read[index] for index in scored]).tolist(), strict=True):
            rewards[index] = reward
        starts = range(0, len(drawn), self.num_answers)
        return [drawn[max(range(start, start + self.num_answers), key=rewards.__getitem__)] for start in starts]


def reward_refusals(
    scorer: Scorer, rows: Sequence[tuple[Sequence[Message], str, str]], *, margin: float
) -> list[str | None]:
    """Why the reward refuses each (prompt, chosen, rejected), or None.

    `reward` says that the chosen answer's is not higher by more than the margin; `reward_unread` that an answer is too
    long for the scorer.
    """
    dialogues = [
        tuple((*prompt, Message("assistant", answer)) for answer in (chosen, rejected))
        for prompt, chosen, rejected in rows
    ]
    is_read = [all(fits(scorer, dialogue) for dialogue in own) for own in dialogues]
    known = [dialogue for own, is_fit in zip(dialogues, is_read, strict=True) if is_fit for dialogue in own]
    rewards = iter(scorer.score(known).tolist())
    refusals: list[str | None] = []
    for is_fit in is_read:
        if not is_fit:
            refusals.append("reward_unread")
            continue
        chosen, rejected = next(rewards), next(rewards)
        refusals.append(None if chosen > rejected + margin else "reward")
    return refusals


def best_by_reward(generator: Generator, settings: RewardedSettings | None, scorer: Scorer | None) -> Generator:
    """The generator, behind best-of-n where the settings ask for it."""
    if settings is None or scorer is None or settings.num_answers == 1:
        return generator
    return BestOfN(generator, scorer, settings.num_answers)


def refuse_conflicts(
    rows: Sequence[dict[str, object]],
    prompts: Sequence[Sequence[Message]],
    settings: RewardedSettings | None,
    scorer: Scorer | None,
) -> None:
    """Fills in `dropped` of the rows, still kept, that the reward ranks against their labels."""
    if settings is None or scorer is None or not settings.drops_conflicts:
        return
    asked = [index for index, row in enumerate(rows) if row["dropped"] is None]
    read = [(prompts[index], str(rows[index]["chosen"]), str(rows[index]["rejected"])) for index in asked]
    for index, reason in zip(asked, reward_refusals(scorer, read, margin=settings.margin), strict=True):
        rows[index]["dropped"] = reason
