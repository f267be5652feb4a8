"""What is compared: every objective of the table with the settings that matter, by the family that shares a rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from distill.objectives.divergences import DivergenceName
from distill.objectives.f_dpo import FDivergenceName

Family = Literal["likelihood", "preference", "preference and distributions", "distributions"]

LEARNING_RATES: dict[Family, tuple[float, ...]] = {
    "likelihood": (1e-4, 3e-4, 1e-3),
    "preference": (1e-5, 5e-5, 2e-4),
    "preference and distributions": (5e-5, 2e-4, 1e-3),
    "distributions": (3e-4, 1e-3, 3e-3),
}
"""Rates that the first arm of a family tries; the best on the valid conversations is the whole family's."""


@dataclass(frozen=True)
class Arm:
    """One row of the comparison: an objective with its settings, as a recipe writes them."""

    name: str
    objective: Mapping[str, object]
    family: Family
    learns_from: str

    @property
    def objective_name(self) -> str:
        """The key of `OBJECTIVES`."""
        return str(self.objective["name"])


def _dpo(name: str, **changes: object) -> Arm:
    return Arm(name, {"name": "dpo", "beta": 0.1, **changes}, "preference", "pairs, reference")


def _dadpo(name: str, **changes: object) -> Arm:
    objective = {"name": "dadpo", "beta_reference": 0.05, "beta_teacher": 0.05, **changes}
    return Arm(name, objective, "preference", "pairs, reference, `scores`")


def _dadpo_and_kl(tier: str) -> Arm:
    term = {"name": "forward_kl", "weight": 1.0, "tier": tier}
    objective = {"name": "dadpo", "beta_reference": 0.05, "beta_teacher": 0.05, "token_divergence": term}
    learns_from = f"pairs, reference, `scores`, `{tier}`"
    return Arm(f"dadpo + forward_kl, {tier}", objective, "preference and distributions", learns_from)


def _kd(divergence: str, *, tier: str = "exact", name: str | None = None, **changes: object) -> Arm:
    objective = {"name": "kd", "divergence": divergence, "tier": tier, **changes}
    return Arm(name or f"kd {divergence}", objective, "distributions", f"`{tier}`")


ARMS: tuple[Arm, ...] = (
    Arm("sft", {"name": "sft"}, "likelihood", "chosen answers"),
    _dadpo("dadpo"),
    _dadpo("dadpo, clip 20", clip=20.0),
    _dadpo("dadpo, length-normalised", length_normalised=True, beta_reference=1.0, beta_teacher=1.0),
    _dpo("dpo"),
    _dpo("dpo, label smoothing 0.1", label_smoothing=0.1),
    *(_dpo(f"dpo, f-DPO {name}", divergence=name) for name in get_args(FDivergenceName) if name != "reverse_kl"),
    *(_dadpo_and_kl(tier) for tier in ("exact", "top-k", "sampled")),
    *(_kd(name) for name in get_args(DivergenceName)),
    _kd("forward_kl", name="kd forward_kl, temperature 2", temperature=2.0),
    _kd("forward_kl", name="kd forward_kl, top-k", tier="top-k"),
    _kd("forward_kl", name="kd forward_kl, sampled", tier="sampled"),
    _kd("uld"),
    Arm("distillm2", {"name": "distillm2", "tier": "exact"}, "distributions", "`exact`"),
    Arm(
        "gkd, on-policy share 0.5",
        {"name": "gkd", "on_policy_share": 0.5, "max_new_tokens": 64, "tier": "exact"},
        "distributions",
        "`exact`, live teacher",
    ),
)


def first_of(family: Family) -> Arm:
    """The arm that chooses its family's rate."""
    return next(arm for arm in ARMS if arm.family == family)


assert tuple(LEARNING_RATES) == get_args(Family)
