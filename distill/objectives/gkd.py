"""GKD: the student learns the teacher's distributions on answers of its own, a share of the time."""

import hashlib
from typing import Literal, Self

from pydantic import Field, model_validator

from distill.objectives.tiers import TierName, require_tier_fits
from distill.settings import Settings


class GkdSettings(Settings):
    r"""Generalised Jensen-Shannon divergence over the tokens of one answer per prompt, a mean over each answer.

    The answer is the chosen one of the pair, or, in a share of the steps, one that the student has just drawn. What
    was drawn is data: no gradient passes through the sampling. A step on the pair's answer reads the teacher's
    cache; for a step on the student's the teacher itself must be at hand.

    Source:
        Agarwal et al. 2024 (GKD), arXiv:2306.13649, sec. 3.1, alg. 1.
        Differs: a mean per answer, then over answers; the paper's code divides by the tokens of the batch.
    """

    name: Literal["gkd"] = "gkd"
    beta: float = Field(0.5, ge=0, le=1, description="of jensen_shannon: 0 is forward_kl, 1 reverse_kl")
    on_policy_share: float = Field(
        0.5, ge=0, le=1, description="share of the steps on answers that the student draws; above 0: a live teacher"
    )
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False, description="divides both models' logits in the loss")
    sampling_temperature: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="divides the student's logits where it draws; 0: greedy"
    )
    max_new_tokens: int = Field(128, gt=0, description="longest answer that the student draws")
    tier: TierName | None = Field(None, description="the cache's tier to learn from; none: the best that it has")

    @model_validator(mode="after")
    def _tier_fits(self) -> Self:
        require_tier_fits(self.tier, "jensen_shannon", {"beta": self.beta}, temperature=self.temperature)
        return self


def is_on_policy(step: int, *, seed: int, share: float) -> bool:
    """Whether optimizer step `step` learns from answers that the student draws; the same at every call.

    A function of seed and step alone, so that ranks agree and a resumed run goes on alike. A greater share only adds
    steps to those of a smaller one; 0 means none and 1 all.

    Source:
        Agarwal et al. 2024 (GKD), arXiv:2306.13649, alg. 1 (one draw a step, for the whole batch).
    """
    digest = hashlib.sha256(f"gkd/{seed}/{step}".encode()).digest()
    # 53 bits, as many as a float holds: below 1 in any case.
    return (int.from_bytes(digest[:8], "little") >> 11) / 2**53 < share
