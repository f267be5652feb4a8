"""Whatever gives an answer a number: a reward model or an EBRM, by one face."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from distill.data import Message
from distill.models import DtypeName
from distill.reward.energy_model import DESCRIPTION_NAME, load_energy_model
from distill.reward.reward_model import Calibration, load_reward_model


class Scorer(Protocol):
    """Scores the last answer of conversations."""

    @property
    def identity(self) -> str:
        """A fingerprint of all that decides its rewards."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """Where its rewards lie, if that was measured."""
        ...

    @property
    def max_length_tokens(self) -> int | None:
        """The longest conversation it reads."""
        ...

    def encode(self, conversation: Sequence[Message]) -> list[int]:
        """Token ids of a whole conversation."""
        ...

    def score(self, conversations: Sequence[Sequence[Message]]) -> Float[Tensor, " conversations"]:
        """The reward of each conversation's last answer."""
        ...


def load_scorer(
    folder_or_id: str | Path, *, dtype: DtypeName = "float32", device: str = "auto", revision: str | None = None
) -> Scorer:
    """An EBRM where the folder holds one, else a reward model.

    Raises:
        ModelError: it cannot be loaded.
        RecipeError: a description beside it is damaged.
    """
    if (Path(folder_or_id) / DESCRIPTION_NAME).is_file():
        return load_energy_model(Path(folder_or_id), dtype=dtype, device=device)
    return load_reward_model(folder_or_id, dtype=dtype, device=device, revision=revision)
