"""Last states and base rewards on disk: one safetensors file, written whole, made in parts that survive a kill.

The body reads each answer once; heads and energy heads are then fitted and measured on the file alone.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distill.data import Message
from distill.errors import DataError
from distill.files import fingerprint, replacing_file
from distill.progress import tracked
from distill.reward.reward_model import RewardModel

log = logging.getLogger(__name__)

FORMAT = "distill-reward-states"
ANSWERS_PER_PART = 512


@dataclass(frozen=True)
class RewardStates:
    """The states that enter the scalar head, and the head's rewards (None: the body has no head yet)."""

    states: Float[Tensor, "answers hidden"]
    rewards: Float[Tensor, " answers"] | None


def cached_states(
    model: RewardModel,
    conversations: Sequence[Sequence[Message]],
    path: Path,
    *,
    answers_per_part: int = ANSWERS_PER_PART,
) -> RewardStates:
    """The file's states where it was made from this model and these conversations, else made and written.

    A file of another model or of other conversations is replaced. Parts of a run that was cut off stand in
    `PATH.parts/` and are used.

    Args:
        model: what reads; a language model without a scalar head gives states only.
        conversations: each ends in the answer that is asked about.
        path: a .safetensors file.
        answers_per_part: answers that a cut-off loses at most.

    Raises:
        DataError: an answer is too long for the model, or the file is damaged.
    """
    made_of = states_fingerprint(model, conversations)
    if path.exists() and _made_of(path) == made_of:
        return read_states(path)
    parts = path.with_name(f"{path.name}.parts")
    found: list[RewardStates] = []
    starts = range(0, len(conversations), answers_per_part)
    with tracked("states of answers", len(conversations)) as progress:
        for number, start in enumerate(starts):
            part, own = parts / f"{number:05d}.safetensors", conversations[start : start + answers_per_part]
            if not part.exists() or _made_of(part) != fingerprint([made_of, start, len(own)]):
                made = RewardStates(model.embeddings(own), None)
                made = RewardStates(made.states, model.rewards_of(made.states) if model.has_head else None)
                write_states(part, made, made_of=fingerprint([made_of, start, len(own)]))
            found.append(read_states(part))
            progress.advance(len(own))
    rewards = [part.rewards for part in found if part.rewards is not None]
    whole = RewardStates(
        torch.cat([part.states for part in found]) if found else torch.empty(0, 0),
        torch.cat(rewards) if rewards else None,
    )
    write_states(path, whole, made_of=made_of)
    shutil.rmtree(parts, ignore_errors=True)
    return whole


def states_fingerprint(model: RewardModel, conversations: Sequence[Sequence[Message]]) -> str:
    """Of the model and of what it reads."""
    read = [[message.to_json() for message in conversation] for conversation in conversations]
    return fingerprint([model.loaded.fingerprint, model.has_head, read])


def write_states(path: Path, states: RewardStates, *, made_of: str) -> None:
    """Writes the file whole or not at all."""
    tensors = {"states": states.states.contiguous()}
    if states.rewards is not None:
        tensors["rewards"] = states.rewards.contiguous()
    with replacing_file(path) as partial:
        save_file(tensors, partial, metadata={"format": FORMAT, "version": "1", "made_of": made_of})


def read_states(path: Path) -> RewardStates:
    """Reads a file back.

    Raises:
        DataError: it is missing, damaged, or of another format.
    """
    _made_of(path)
    with safe_open(path, framework="pt") as handle:
        names = set(handle.keys())
        return RewardStates(handle.get_tensor("states"), handle.get_tensor("rewards") if "rewards" in names else None)


def _made_of(path: Path) -> str:
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is no safetensors file: {error}", fix="delete it; it is made again") from error
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path} has metadata {json.dumps(metadata)[:120]}", why=f"{FORMAT} was expected")
    return str(metadata["made_of"])
