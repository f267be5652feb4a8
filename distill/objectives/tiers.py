"""What a teacher cache's tiers can tell: which divergences each allows, without bias or as a lower bound."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

from distill.objectives.divergences import DivergenceName

TierName = Literal["exact", "logits-bf16", "exact-int8", "top-k", "sampled"]
TokenLossName = Literal[DivergenceName, "uld"]
"""A divergence, or `uld`, which compares sorted probabilities and so needs no common vocabulary."""

WHOLE_TIERS: tuple[TierName, ...] = ("exact", "logits-bf16", "exact-int8")
ALL_TIERS: tuple[TierName, ...] = get_args(TierName)


def tiers_for(name: str, parameters: Mapping[str, float], *, temperature: float = 1.0) -> tuple[TierName, ...]:
    """The tiers that a token-level loss can be computed from, the best first.

    Whole distributions allow everything. A list of likeliest tokens with the tail as one event allows every
    f-divergence (as a lower bound, by the data-processing inequality), which all but `alpha_beta` with alpha + beta
    other than 1 are, and `uld`. Drawn tokens allow what is linear in the teacher's probabilities: forward KL less
    the teacher's entropy. No sparse tier knows what a temperature makes of the tokens that it leaves out.
    """
    if temperature != 1.0:
        return WHOLE_TIERS
    if is_forward_kl(name, parameters):
        return ALL_TIERS
    if name == "alpha_beta" and not math.isclose(parameters.get("alpha", 0.5) + parameters.get("beta", 0.5), 1.0):
        return WHOLE_TIERS
    return (*WHOLE_TIERS, "top-k")


def is_forward_kl(name: str, parameters: Mapping[str, float]) -> bool:
    """Whether a divergence is forward KL, by name or as the end of a family."""
    return (
        name == "forward_kl"
        or (name == "jensen_shannon" and parameters.get("beta") == 0.0)
        or (name == "skew_kl" and parameters.get("alpha") == 0.0)
        or (name == "alpha_beta" and (parameters.get("alpha"), parameters.get("beta")) == (1.0, 0.0))
    )


def require_tier_fits(tier: TierName | None, name: str, parameters: Mapping[str, float], *, temperature: float) -> None:
    """Checks a recipe's choice of a tier while it is read.

    Raises:
        ValueError: the tier cannot tell the divergence.
    """
    known = tiers_for(name, parameters, temperature=temperature)
    if tier is None or tier in known:
        return
    what = name if temperature == 1.0 else f"{name} at temperature {temperature:g}"
    raise ValueError(f"tier is {tier}, but {what} cannot be computed from it (use one of {', '.join(known)})")
