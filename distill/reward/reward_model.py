"""Scalar-head reward models: loaded, asked, and saved as sequence-classification checkpoints that transformers reads.

A conversation is rendered whole by the model's own chat template and tokenized without further special tokens, so that
no BOS stands twice; its reward is the head's value at its last token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from distill.data import Message, PreferencePair, render_dialogue
from distill.errors import DataError
from distill.files import fingerprint, read_json, write_json
from distill.models import DtypeName, LoadedModel, save_model
from distill.models.adapters import without_adapters
from distill.models.scalar_head import last_token_states, load_scalar_head, scalar_head
from distill.numerics import widened
from distill.settings import Settings, validated

CALIBRATION_NAME = "reward_calibration.json"


class Calibration(Settings):
    """Where a model's rewards lie, measured on known pairs; rewards of another model lie elsewhere."""

    format: Literal["distill-reward-calibration"] = "distill-reward-calibration"
    version: Literal[1] = 1
    mean: float = Field(description="of the rewards of the pairs' answers, chosen and rejected")
    scale: float = Field(gt=0, description="their standard deviation")
    num_pairs: int = Field(gt=0, description="pairs measured")

    def score(self, reward: float) -> float:
        """From 1 to 10, monotone: 1 + 9 sigmoid((reward - mean) / scale)."""
        z = (reward - self.mean) / self.scale
        sigmoid = 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))
        return 1.0 + 9.0 * sigmoid


@dataclass(frozen=True)
class RewardModel:
    """A sequence classifier with one label, its tokenizer, and where its rewards lie, if that was measured."""

    loaded: LoadedModel
    calibration: Calibration | None = None

    @property
    def identity(self) -> str:
        """The hex sha256 over weights, chat template and calibration."""
        calibration = None if self.calibration is None else self.calibration.model_dump(mode="json")
        return fingerprint([self.loaded.fingerprint, calibration])

    @property
    def max_length_tokens(self) -> int | None:
        """The longest conversation the model is made for, where its configuration says."""
        longest = getattr(without_adapters(self.loaded.model).config, "max_position_embeddings", None)
        return int(longest) if longest is not None else None

    def encode(self, conversation: Sequence[Message]) -> list[int]:
        """Token ids of a whole conversation."""
        return render_dialogue(self.loaded.tokenizer, conversation)

    def embeddings(self, conversations: Sequence[Sequence[Message]]) -> Float[Tensor, "conversations hidden"]:
        """The state at each conversation's last token, which the head sees.

        Raises:
            DataError: a conversation is longer than the model is made for.
        """
        rows = [self.encode(conversation) for conversation in conversations]
        for number, row in enumerate(rows):
            if self.max_length_tokens is not None and len(row) > self.max_length_tokens:
                raise DataError(
                    f"conversation {number} has {len(row)} tokens",
                    why=f"{self.loaded.source} reads {self.max_length_tokens} at most; a cut answer has no reward",
                    fix="leave it out, or use a reward model for longer conversations",
                )
        return last_token_states(self.loaded.model, rows)

    @property
    def has_head(self) -> bool:
        """Whether there is a scalar head; a body alone has states, and no rewards."""
        return hasattr(without_adapters(self.loaded.model), "score")

    def rewards_of(self, states: Float[Tensor, "answers hidden"]) -> Float[Tensor, " answers"]:
        """What the head says of states, in float32 or wider."""
        states = widened(states)
        return states @ widened(scalar_head(self.loaded.model).cpu()).to(states.dtype)

    def score(self, conversations: Sequence[Sequence[Message]]) -> Float[Tensor, " conversations"]:
        """The reward of each conversation's last answer, in float32 or wider.

        Raises:
            DataError: a conversation is longer than the model is made for.
        """
        if not conversations:
            return torch.empty(0)
        return self.rewards_of(self.embeddings(conversations))

    def calibrated(self, pairs: Sequence[PreferencePair]) -> "RewardModel":
        """The same model with its rewards measured on the answers of known pairs.

        Raises:
            DataError: there is no pair, all rewards are equal, or an answer is too long.
        """
        return replace(self, calibration=measured_calibration(self.score(conversations_of(pairs)), len(pairs)))


def measured_calibration(rewards: Float[Tensor, " answers"], num_pairs: int) -> Calibration:
    """Where the rewards of both answers of known pairs lie.

    Raises:
        DataError: there are none, or all are equal.
    """
    rewards = rewards.double()
    if len(rewards) < 2 or not rewards.std(correction=0) > 0:
        raise DataError(
            f"{num_pairs} pairs to measure rewards on, which do not differ",
            why="the scale of the rewards would be zero",
            fix="give pairs of different answers",
        )
    return Calibration(mean=float(rewards.mean()), scale=float(rewards.std(correction=0)), num_pairs=num_pairs)


def load_reward_model(
    folder_or_id: str | Path, *, dtype: DtypeName = "float32", device: str = "auto", revision: str | None = None
) -> RewardModel:
    """Loads a reward model, with its calibration where one lies beside it.

    Raises:
        ModelError: it cannot be loaded, or is no reward model with one label.
        RecipeError: the calibration is damaged.
    """
    loaded = load_scalar_head(folder_or_id, dtype=dtype, device=device, revision=revision)
    path = Path(loaded.tokenizer.name_or_path) / CALIBRATION_NAME
    if not path.is_file():
        return RewardModel(loaded)
    return RewardModel(loaded, validated(Calibration, read_json(path), source=str(path)))


def save_reward_model(model: RewardModel, folder: Path) -> None:
    """Writes a sequence-classification checkpoint, its tokenizer, and the calibration, if there is one."""
    save_model(model.loaded.model, model.loaded.tokenizer, folder)
    if model.calibration is not None:
        write_json(folder / CALIBRATION_NAME, model.calibration.model_dump(mode="json"))


def conversations_of(pairs: Sequence[PreferencePair]) -> list[tuple[Message, ...]]:
    """Each pair's two conversations: first all with the chosen answer, then all with the rejected one."""
    return [
        (*pair.prompt, Message("assistant", answer))
        for answers in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
        for pair, answer in zip(pairs, answers, strict=True)
    ]


def pair_accuracy(model: RewardModel, pairs: Sequence[PreferencePair]) -> float:
    """Share of pairs whose chosen answer has the higher reward; equal rewards count half.

    Raises:
        DataError: there is no pair, or an answer is too long.
    """
    if not pairs:
        raise DataError("no pairs to measure a reward model on", why="its accuracy would be unknown", fix="give some")
    chosen, rejected = model.score(conversations_of(pairs)).view(2, -1)
    return float(((chosen > rejected).double() + 0.5 * (chosen == rejected).double()).mean())
