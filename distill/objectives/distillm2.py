"""DistiLLM-2: the teacher's answers pulled up and the student's own pushed down, each by its skewed divergence."""

from typing import Literal, Self

from pydantic import Field, model_validator

from distill.objectives.tiers import TierName, require_tier_fits
from distill.settings import Settings


class DistillM2Settings(Settings):
    r"""The contrastive loss of a pair, with means over each answer's own tokens.

    .. math:: (2 - b) \, \overline{SKL_{a_w}}(y_w) + b \, \overline{SRKL_{a_l}}(y_l)

    where SKL is `skew_kl` on the teacher's (chosen) answer and SRKL `skew_reverse_kl` on the student's (rejected).

    Source:
        Ko et al. 2025 (DistiLLM-2), arXiv:2503.07067, sec. 3; weights as in the released code, where b = 1.
        Differs: the gradient of SRKL is the whole one (the released code detaches the student inside the mixture);
        its adaptive alpha and growing b, which are off there, do not exist here.
    """

    name: Literal["distillm2"] = "distillm2"
    chosen_alpha: float = Field(0.1, ge=0, lt=1, description="the teacher's share of SKL's mixture, on its answers")
    rejected_alpha: float = Field(0.1, ge=0, lt=1, description="the student's share of SRKL's mixture, on its answers")
    rejected_weight: float = Field(
        1.0, ge=0, le=2, description="b: weight of the student's answers; the teacher's have 2 - b"
    )
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False, description="divides both models' logits")
    tier: TierName | None = Field(None, description="the cache's tier to learn from; none: the best that it has")

    @model_validator(mode="after")
    def _tier_fits(self) -> Self:
        for name, alpha in (("skew_kl", self.chosen_alpha), ("skew_reverse_kl", self.rejected_alpha)):
            require_tier_fits(self.tier, name, {"alpha": alpha}, temperature=self.temperature)
        return self
