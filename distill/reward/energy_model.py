"""EBRM: a reward model whose rewards are refined by an energy head; scored in batches, saved and loaded as a folder.

The folder holds `base/`, the reward model as transformers reads it, `energy.safetensors`, the head's weights, and
`energy.json`, what shapes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.data import Message, PreferencePair
from distill.errors import ModelError
from distill.files import fingerprint, read_json, replacing_file, replacing_folder, sha256_of_file, write_json
from distill.models import DtypeName
from distill.reward.energy_fit import FittedEnergy, RewardScale
from distill.reward.energy_head import EnergyHead, EnergyHeadSettings
from distill.reward.refine import Ascent, RefineSettings, ascend, start_rewards
from distill.reward.reward_model import (
    Calibration,
    RewardModel,
    conversations_of,
    load_reward_model,
    measured_calibration,
    save_reward_model,
)
from distill.settings import Settings, validated

BASE_NAME, HEAD_NAME, DESCRIPTION_NAME = "base", "energy.safetensors", "energy.json"


class EnergyDescription(Settings):
    """What `energy.json` says."""

    format: Literal["distill-energy-reward"] = "distill-energy-reward"
    version: Literal[1] = 1
    hidden_size: int = Field(gt=0, description="of the base model's states")
    head: EnergyHeadSettings = Field(description="sizes of the network")
    refine: RefineSettings = Field(description="how rewards are refined")
    centre: float = Field(description="base reward that the head knows as 0")
    width: float = Field(gt=0, description="base rewards to one of the head's units")
    seed: int = Field(0, description="of random starts")
    calibration: Calibration | None = Field(None, description="where refined rewards lie, if that was measured")
    head_sha256: str = Field(description="of energy.safetensors")


@dataclass(frozen=True)
class EnergyRewardModel:
    """A base reward model and an energy head on its states; asked like a reward model.

    Refined rewards are given in the base model's units.
    """

    base: RewardModel
    head: EnergyHead
    scale: RewardScale
    refine: RefineSettings
    seed: int = 0
    calibration: Calibration | None = None

    @property
    def identity(self) -> str:
        """The hex sha256 over the base model, the head, how rewards are refined, and the calibration."""
        weights = [[name, fingerprint(value.tolist())] for name, value in sorted(self.head.state_dict().items())]
        calibration = None if self.calibration is None else self.calibration.model_dump(mode="json")
        shape = [self.scale.centre, self.scale.width, self.refine.model_dump(mode="json"), self.seed, calibration]
        return fingerprint([self.base.identity, weights, shape])

    @property
    def max_length_tokens(self) -> int | None:
        """The longest conversation the base model is made for, where its configuration says."""
        return self.base.max_length_tokens

    def encode(self, conversation: Sequence[Message]) -> list[int]:
        """Token ids of a whole conversation."""
        return self.base.encode(conversation)

    def score(self, conversations: Sequence[Sequence[Message]]) -> Float[Tensor, " conversations"]:
        """The refined reward of each conversation's last answer; it does not depend on what else is scored.

        Raises:
            DataError: a conversation is longer than the base model is made for.
        """
        if not conversations:
            return torch.empty(0)
        states = self.base.embeddings(conversations).float()
        seeds = [self.start_seed(conversation) for conversation in conversations]
        ascent = self.ascent(states, self.base.rewards_of(states), seeds=seeds)
        return self.scale.outward(ascent.rewards)

    def start_seed(self, conversation: Sequence[Message]) -> int:
        """Of a conversation's random start."""
        return int(fingerprint([self.seed, [message.to_json() for message in conversation]])[:16], 16)

    def ascent(
        self,
        states: Float[Tensor, "answers hidden"],
        base_rewards: Float[Tensor, " answers"],
        *,
        seeds: Sequence[int],
    ) -> Ascent:
        """Refines known base rewards; rewards and energies of the outcome are in the head's units."""

        def energy(candidates: Tensor, which: Tensor) -> Tensor:
            found: Tensor = self.head(states[which], candidates.unsqueeze(-1))
            return found.squeeze(-1)

        start = start_rewards(self.scale.inward(base_rewards.float()), self.refine, seeds=seeds)
        return ascend(energy, start, self.refine)

    def calibrated(self, pairs: Sequence[PreferencePair]) -> "EnergyRewardModel":
        """The same model with its refined rewards measured on the answers of known pairs.

        Raises:
            DataError: there is no pair, all rewards are equal, or an answer is too long.
        """
        return replace(self, calibration=measured_calibration(self.score(conversations_of(pairs)), len(pairs)))


def energy_reward_model(
    base: RewardModel, fitted: FittedEnergy, refine: RefineSettings, *, seed: int
) -> EnergyRewardModel:
    """A fitted head on the base model whose states it was fitted on."""
    return EnergyRewardModel(base, fitted.head, fitted.scale, refine, seed)


def save_energy_model(model: EnergyRewardModel, folder: Path) -> None:
    """Writes the folder whole or not at all."""
    with replacing_folder(folder) as partial:
        save_reward_model(model.base, partial / BASE_NAME)
        with replacing_file(partial / HEAD_NAME) as weights:
            save_file({name: value.contiguous() for name, value in model.head.state_dict().items()}, weights)
        description = EnergyDescription(
            hidden_size=model.head.hidden_size,
            head=model.head.settings,
            refine=model.refine,
            centre=model.scale.centre,
            width=model.scale.width,
            seed=model.seed,
            calibration=model.calibration,
            head_sha256=sha256_of_file(partial / HEAD_NAME),
        )
        write_json(partial / DESCRIPTION_NAME, description.model_dump(mode="json"))


def load_energy_model(folder: Path, *, dtype: DtypeName = "float32", device: str = "auto") -> EnergyRewardModel:
    """Reads a folder back.

    Raises:
        ModelError: it holds no EBRM, its weights are damaged, or they are not those that were saved with it.
        RecipeError: `energy.json` is damaged.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        raise ModelError(
            f"{folder} has no {DESCRIPTION_NAME}", why="it is no EBRM folder", fix="name the folder itself"
        )
    known = validated(EnergyDescription, read_json(path), source=str(path))
    weights = folder / HEAD_NAME
    if not weights.is_file() or sha256_of_file(weights) != known.head_sha256:
        raise ModelError(
            f"{weights} is missing or not the file that {DESCRIPTION_NAME} was written with",
            why="a head of other weights would give other rewards",
            fix="copy the whole folder again",
        )
    head = EnergyHead(known.hidden_size, known.head)
    try:
        head.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"{weights} does not fit {DESCRIPTION_NAME}", why=str(error).splitlines()[0]) from error
    base = load_reward_model(folder / BASE_NAME, dtype=dtype, device=device)
    scale = RewardScale(known.centre, known.width)
    return EnergyRewardModel(base, head.eval(), scale, known.refine, known.seed, known.calibration)
