"""The token-level term: how far the student's distributions are from the teacher's, a mean per pair."""

from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import segment_sum
from distill.objectives.divergences import DivergenceName, named_divergence
from distill.objectives.terms import TokenValues
from distill.objectives.tiers import TierName, TokenLossName, require_tier_fits
from distill.settings import Settings

Answers = Literal["chosen", "rejected", "both"]


class TokenDivergenceSettings(Settings):
    """Which divergence from the teacher stands beside the preference loss, and how much it counts."""

    name: DivergenceName = Field("forward_kl", description="a divergence between next-token distributions")
    weight: float = Field(gt=0, allow_inf_nan=False, description="weight of the mean divergence a token, in nats")
    alpha: float | None = Field(None, description="alpha of skew_kl, skew_reverse_kl and alpha_beta")
    beta: float | None = Field(None, description="beta of jensen_shannon and alpha_beta")
    temperature: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="divides both models' logits; the divergence counts T^2 fold"
    )
    tier: TierName | None = Field(None, description="the cache's tier to learn from; none: the best that it has")

    @model_validator(mode="after")
    def _parameters_fit(self) -> Self:
        require_parameters(self.name, self.parameters)
        require_tier_fits(self.tier, self.name, self.parameters, temperature=self.temperature)
        return self

    @property
    def parameters(self) -> dict[str, float]:
        """The divergence's parameters that the recipe gives."""
        return given_parameters(alpha=self.alpha, beta=self.beta)


class KdSettings(Settings):
    r"""Distillation on the teacher's distributions alone, over the tokens of a pair's answers.

    .. math:: T^2 \, D(\mathrm{softmax}(z_T / T), \mathrm{softmax}(z_S / T)), \text{ a mean over each pair's tokens}

    From the cache's tier `top-k` the divergence is a lower bound, from `sampled` it has the teacher's entropy in it.

    Source:
        Hinton et al. 2015, arXiv:1503.02531, sec. 2.
    """

    name: Literal["kd"] = "kd"
    divergence: TokenLossName = Field(
        "forward_kl", description="a divergence between next-token distributions; uld: of two vocabularies"
    )
    alpha: float | None = Field(None, description="alpha of skew_kl, skew_reverse_kl and alpha_beta")
    beta: float | None = Field(None, description="beta of jensen_shannon and alpha_beta")
    temperature: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="divides both models' logits; the divergence counts T^2 fold"
    )
    tier: TierName | None = Field(None, description="the cache's tier to learn from; none: the best that it has")
    on: Answers = Field("both", description="whose tokens count: the teacher's answer, the student's, or both")
    nll_weight: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="weight of the chosen answer's mean negative log-likelihood a token"
    )

    @model_validator(mode="after")
    def _parameters_fit(self) -> Self:
        require_parameters(self.divergence, self.parameters)
        require_tier_fits(self.tier, self.divergence, self.parameters, temperature=self.temperature)
        return self

    @property
    def parameters(self) -> dict[str, float]:
        """The divergence's parameters that the recipe gives."""
        return given_parameters(alpha=self.alpha, beta=self.beta)


def given_parameters(**parameters: float | None) -> dict[str, float]:
    """Those parameters that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}


def require_parameters(name: str, parameters: dict[str, float]) -> None:
    """Checks a divergence's parameters while a recipe is read.

    Raises:
        ValueError: the divergence has no such parameter, or the value is out of range.
    """
    if name == "uld":
        if parameters:
            raise ValueError(f"divergence uld has no parameter {next(iter(parameters))!r}")
        return
    try:
        named_divergence(name, **parameters)
    except RecipeError as error:
        raise ValueError(f"{error.what} ({error.why or error.fix})") from error


def pair_means(tokens: TokenValues, *, num_pairs: int, on: Answers = "both") -> Float[Tensor, " batch"]:
    """The mean of a token-level value over the tokens of each pair's answers, one value per pair.

    The tokens of both answers are summed together and divided by their number, so that a long answer counts for
    more than a short one inside its pair, and every pair counts alike. A pair none of whose tokens count gives 0;
    what stands at tokens that do not count, nan too, changes neither value nor gradient.

    Differs: GKD and most token losses divide by the tokens of the whole batch; dividing within the pair makes
    the term one value per pair, as the preference loss beside it is. daDPO's paper has no such term.
    """
    counted = counted_tokens(tokens.is_chosen, tokens.is_told, on)
    sums = segment_sum(torch.where(counted, tokens.values, 0.0), tokens.pair_index, num_pairs)
    num_tokens = segment_sum(counted.to(sums.dtype), tokens.pair_index, num_pairs)
    return sums / num_tokens.clamp_min(1.0)


def counted_tokens(
    is_chosen: Bool[Tensor, " tokens"], is_told: Bool[Tensor, " tokens"] | None, on: Answers
) -> Bool[Tensor, " tokens"]:
    """The tokens that count when the loss is `on` the chosen answers, the rejected ones, or both.

    Args:
        is_chosen: whether the token is of the chosen answer.
        is_told: whether the teacher says something about the token; None: about all.
        on: whose tokens count.
    """
    counted = torch.ones_like(is_chosen) if on == "both" else is_chosen if on == "chosen" else ~is_chosen
    return counted if is_told is None else counted & is_told
