"""What the reward stage fits, and on how much it measures it."""

from typing import Annotated

from pydantic import Field

from distill.decoding import SamplingSettings
from distill.reward import EnergyFitSettings, RefineSettings, RewardFitSettings
from distill.settings import Settings
from eval.pair_sets import PairSetSettings


class BestOfNSettings(Settings):
    """Best-of-n on test prompts, with the data's checker as the gold reward."""

    num_prompts: int = Field(100, gt=1, description="first turns of test conversations")
    num_answers: int = Field(32, gt=1, description="answers of the student's start to each; the largest n")
    sampling: SamplingSettings = Field(SamplingSettings(max_new_tokens=64), description="how they are drawn")


class RewardStageSettings(Settings):
    """A base reward model for each pair set, an energy head on it, and both measured on held-out pairs."""

    pairs: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], PairSetSettings] = Field(
        min_length=1, description="by name; the first set's models are saved"
    )
    body: str | None = Field(
        None, description="folder or hub id of the model under the heads; none: the teacher, else the student's start"
    )
    base: RewardFitSettings = Field(RewardFitSettings(), description="how the scalar head is fitted")
    energy: EnergyFitSettings = Field(EnergyFitSettings(), description="how the energy head is fitted")
    refine: RefineSettings = Field(RefineSettings(), description="how rewards are refined")
    num_seeds: int = Field(5, gt=0, description="fits of each set, each with a seed and a held-out fold of its own")
    num_folds: int = Field(5, gt=1, description="parts of a set, of which one is held out")
    best_of_n: BestOfNSettings | None = Field(None, description="over-optimisation of the first set's models")
