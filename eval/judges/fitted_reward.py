"""The embedded world's reward model as a folder: fitted once, then read."""

import logging
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill.files import read_json, write_json
from distill.models import LoadedModel
from distill.reward import RewardModel, load_reward_model, save_reward_model
from distill.settings import Settings, validated
from eval.judges.embedded_judge import embedded_reward

log = logging.getLogger(__name__)

MARK = "fit.json"


class RewardFit(Settings):
    """What a reward model was fitted on, and what it is worth; written last, when the folder is whole."""

    format: Literal["distill-embedded-reward"] = "distill-embedded-reward"
    body: str = Field(description="fingerprint of the model beneath the head")
    num_dialogues: int = Field(description="of the split that it was fitted on")
    num_held_out: int = Field(description="dialogues of the split that it was measured on")
    accuracy: float = Field(description="on pairs of these")
    num_pairs: int = Field(description="those pairs")


def fitted_reward(
    body: LoadedModel, folder: Path, *, num_dialogues: int, num_held_out: int
) -> tuple[RewardModel, RewardFit]:
    """The model of a folder; fitted and written first, where the folder holds none of this body and these dialogues.

    It is read back even when it was just fitted, so that it is the same model in the first call and in later ones.

    Raises:
        DataError: the fit is refused; see `distill.reward.fit_reward_model`.
        ModelError: the body's family has no sequence classifier.
    """
    mark = folder / MARK
    wanted = (body.fingerprint, num_dialogues, num_held_out)
    fit = validated(RewardFit, read_json(mark), source=str(mark)) if mark.exists() else None
    if fit is None or (fit.body, fit.num_dialogues, fit.num_held_out) != wanted:
        mark.unlink(missing_ok=True)
        log.info("fitting a reward model on %d dialogues", num_dialogues)
        found = embedded_reward(body, num_dialogues=num_dialogues, num_held_out=num_held_out)
        save_reward_model(found.fitted.model, folder)
        fit = RewardFit(
            body=body.fingerprint,
            num_dialogues=num_dialogues,
            num_held_out=num_held_out,
            accuracy=found.accuracy,
            num_pairs=found.num_held_out,
        )
        write_json(mark, fit.model_dump(mode="json"))
    return load_reward_model(folder, device="cpu"), fit
