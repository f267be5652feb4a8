"""What a target may ask of an answer: features of its text, by name, each a number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from distill.data import Message
from distill.embedded import PERSONALITIES
from distill.embedded.checker import personalities_shown
from distill.reward.scorer import Scorer, load_scorer
from distill.settings import Settings

FeatureName = Literal["contains", "lacks", "personality", "num_words", "reward_model"]
BINARY: tuple[FeatureName, ...] = ("contains", "lacks", "personality")
Texts = Sequence[str]


class FeatureSettings(Settings):
    """One feature of an answer."""

    name: FeatureName = Field(
        description="contains or lacks a text; shows one personality of the embedded world and no other; its number of "
        "words; its reward by a reward model"
    )
    value: str | None = Field(
        None, description="the text, the personality, or the folder or hub id of a reward model or EBRM"
    )

    @model_validator(mode="after")
    def _has_what_it_reads(self) -> Self:
        if (self.value is None) == (self.name != "num_words"):
            said = "is missing" if self.value is None else f"is {self.value}, and num_words reads none"
            raise ValueError(f"value {said} (for example name=lacks value='!')")
        if self.name == "personality" and self.value not in PERSONALITIES:
            raise ValueError(f"value is {self.value}: known personalities: {', '.join(PERSONALITIES)}")
        return self

    @property
    def is_binary(self) -> bool:
        """Whether it is 0 or 1 of every answer."""
        return self.name in BINARY

    @property
    def label(self) -> str:
        """A name for tables and metrics."""
        return self.name if self.value is None else f"{self.name} {self.value}"


@dataclass(frozen=True)
class TextFeature:
    """A feature, ready to be asked."""

    settings: FeatureSettings
    model: Scorer | None = None

    def of(self, prompts: Sequence[Sequence[Message]], answers: Texts) -> Float[Tensor, " answers"]:
        """One number an answer, in float64.

        Raises:
            DataError: an answer with its prompt is longer than the reward model reads.
        """
        if self.model is not None:
            rows = [(*prompt, Message("assistant", a)) for prompt, a in zip(prompts, answers, strict=True)]
            return self.model.score(rows).double()
        read = _READERS[self.settings.name]
        return torch.tensor([read(answer, self.settings.value or "") for answer in answers], dtype=torch.float64)


def text_feature(settings: FeatureSettings) -> TextFeature:
    """The feature, its reward model loaded where it needs one.

    Raises:
        ModelError: the reward model cannot be loaded.
    """
    if settings.name != "reward_model":
        return TextFeature(settings)
    assert settings.value is not None
    return TextFeature(settings, load_scorer(settings.value))


_READERS: dict[str, Callable[[str, str], float]] = {
    "contains": lambda answer, text: float(text in answer),
    "lacks": lambda answer, text: float(text not in answer),
    "personality": lambda answer, personality: float(personalities_shown(answer) == {personality}),
    "num_words": lambda answer, _: float(len(answer.split())),
}
