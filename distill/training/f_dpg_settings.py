"""What a recipe says about f-DPG: the target, the divergences that are compared, who draws answers and how many."""

from typing import Literal, Self

from pydantic import Field, model_validator

from distill.errors import RecipeError
from distill.objectives import SftSettings
from distill.objectives.f_dpg import require_bearable_zeros
from distill.objectives.f_generators import FDpgDivergence
from distill.reward.text_features import FeatureSettings
from distill.settings import Settings
from distill.training.settings import TrainSettings


class MomentSettings(Settings):
    """A feature whose mean over the target's answers is prescribed."""

    feature: FeatureSettings
    mean: float = Field(allow_inf_nan=False, description="the wanted mean; a binary feature's lies between 0 and 1")

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if self.feature.is_binary and not 0 < self.mean < 1:
            raise ValueError(
                f"mean is {self.mean}, and {self.feature.label} is 0 or 1: it lies between (a mean of 1 is a hard "
                "constraint: list the feature under target.always)"
            )
        return self


class TargetSettings(Settings):
    """log P = (b1 log reference + b2 log teacher + r) / (b1 + b2) + log b + sum of lambda phi.

    Any of the parts may be left out. With a reward alone it is where RL with a KL penalty ends; with a teacher it is
    daDPO's optimal policy.
    """

    always: tuple[FeatureSettings, ...] = Field((), description="binary features that every answer must have")
    moments: tuple[MomentSettings, ...] = Field((), description="features with a prescribed mean")
    reward: FeatureSettings | None = Field(None, description="what is rewarded")
    beta_reference: float = Field(1.0, ge=0, allow_inf_nan=False, description="pull toward the start")
    beta_teacher: float = Field(0.0, ge=0, allow_inf_nan=False, description="pull toward the recipe's teacher")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.beta_reference + self.beta_teacher <= 0:
            raise ValueError("beta_reference and beta_teacher are both 0, and their sum must be positive")
        for feature in self.always:
            if not feature.is_binary:
                raise ValueError(f"always lists {feature.label}, which is not 0 or 1 (give it a mean under moments)")
        if not (self.always or self.moments or self.reward or self.beta_teacher):
            raise ValueError("the target is the start itself: give always, moments, reward or beta_teacher")
        return self


class FDpgSettings(TrainSettings):
    """f-DPG on prompts: `global_batch_size` prompts a step, each with `num_samples` answers."""

    objective: SftSettings = Field(
        SftSettings(), description="fixed: a step raises log-probs of drawn answers by f-DPG's weights"
    )
    explosion_factor: float | None = Field(
        None, gt=1, allow_inf_nan=False, description="null: the loss of f-DPG is no measure of anything"
    )
    target: TargetSettings
    divergences: tuple[FDpgDivergence, ...] = Field(
        ("jensen_shannon",), min_length=1, description="a student is trained by each; the first is the run's result"
    )
    alpha: float = Field(0.5, gt=0, lt=1, description="of the divergence alpha: toward 0 forward KL, toward 1 reverse")
    max_reward: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="pseudo-rewards are cut to it from above; none: as in the paper"
    )
    num_samples: int = Field(16, gt=1, description="answers to each prompt of a step")
    max_new_tokens: int = Field(64, gt=0, description="longest answer")
    proposal: Literal["online", "offline"] = Field(
        "online", description="who draws: the student itself, or a copy that it replaces when it is nearer the target"
    )
    proposal_update_steps: int = Field(16, gt=0, description="offline: steps between looks at who is nearer")
    baseline_window: int = Field(1024, gt=0, description="latest answers whose mean reward is the baseline")
    num_fit_prompts: int = Field(64, gt=0, description="prompts on which the coefficients of moments are fitted")
    num_fit_samples: int = Field(32, gt=1, description="answers of the start to each of them")
    num_measured_prompts: int = Field(100, gt=1, description="held-out prompts of the final table")
    num_measured_samples: int = Field(16, gt=1, description="answers to each of them")
    keeps_system: bool = Field(True, description="false: prompts lose their system message, and the student chooses")

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if len(set(self.divergences)) < len(self.divergences):
            raise ValueError(f"divergences names one twice: {', '.join(self.divergences)}")
        for feature in self.target.always:
            for divergence in self.divergences:
                try:
                    require_bearable_zeros(divergence, constraint=feature.label)
                except RecipeError as error:
                    raise ValueError(f"{error.what}: {error.why} (use {error.fix})") from error
        return self
