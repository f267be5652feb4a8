"""Every objective of the trainer by name: its settings, and what it needs from data, cache and teacher."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from distill.objectives.dadpo import DadpoSettings
from distill.objectives.distillm2 import DistillM2Settings
from distill.objectives.dpo import DpoSettings
from distill.objectives.gkd import GkdSettings
from distill.objectives.tiers import ALL_TIERS, WHOLE_TIERS, TierName
from distill.objectives.token_divergence import KdSettings
from distill.objectives.token_losses import PairSettings, token_losses
from distill.settings import Settings


class SftSettings(Settings):
    """The negative log-likelihood of the assistant's tokens, a mean over tokens."""

    name: Literal["sft"] = "sft"


ObjectiveSettings = Annotated[
    SftSettings | PairSettings,
    Field(discriminator="name"),
]


@dataclass(frozen=True)
class Objective:
    """What training with an objective needs.

    `tiers` are those of the teacher's cache that its token-level terms can learn from, the best first; settings may
    narrow them (`distribution_tiers`).
    """

    settings: type[Settings]
    examples: Literal["conversations", "pairs"]
    needs_reference: bool
    needs_teacher_scores: bool
    tiers: tuple[TierName, ...]
    teacher: Literal["none", "cache", "live teacher"]

    def distribution_tiers(self, settings: ObjectiveSettings) -> tuple[TierName, ...]:
        """The tiers of the teacher's cache that would do for these settings, the best first; none are needed: ()."""
        if isinstance(settings, SftSettings):
            return ()
        losses = token_losses(settings)
        return tuple(tier for tier in self.tiers if losses and all(tier in loss.tiers for loss in losses))

    def needs_distributions(self, settings: ObjectiveSettings) -> bool:
        """Whether these settings learn from the teacher's distributions, not from its scores alone."""
        return bool(self.distribution_tiers(settings)) and not self._is_wholly_live(settings)

    def needs_live_teacher(self, settings: ObjectiveSettings) -> bool:
        """Whether some steps learn from answers that are drawn while training, which no cache can hold."""
        return isinstance(settings, GkdSettings) and settings.on_policy_share > 0.0

    def needs_teacher_cache(self, settings: ObjectiveSettings) -> bool:
        """Whether these settings learn anything from the teacher's cache."""
        return self.needs_teacher_scores or self.needs_distributions(settings)

    def compares_token_ids(self, settings: ObjectiveSettings) -> bool:
        """Whether teacher and student must share their tokenizer.

        Sums of log-probs over a whole answer need no common tokens, each model reads the text with its own; `uld`
        compares probabilities sorted, whatever tokens they are of.
        """
        return not isinstance(settings, SftSettings) and any(loss.name != "uld" for loss in token_losses(settings))

    def _is_wholly_live(self, settings: ObjectiveSettings) -> bool:
        return isinstance(settings, GkdSettings) and settings.on_policy_share == 1.0


OBJECTIVES: dict[str, Objective] = {
    "sft": Objective(
        SftSettings,
        "conversations",
        needs_reference=False,
        needs_teacher_scores=False,
        tiers=(),
        teacher="none",
    ),
    "dpo": Objective(
        DpoSettings,
        "pairs",
        needs_reference=True,
        needs_teacher_scores=False,
        tiers=(),
        teacher="none",
    ),
    "dadpo": Objective(
        DadpoSettings,
        "pairs",
        needs_reference=True,
        needs_teacher_scores=True,
        tiers=ALL_TIERS,
        teacher="cache",
    ),
    "kd": Objective(
        KdSettings,
        "pairs",
        needs_reference=False,
        needs_teacher_scores=False,
        tiers=ALL_TIERS,
        teacher="cache",
    ),
    "distillm2": Objective(
        DistillM2Settings,
        "pairs",
        needs_reference=False,
        needs_teacher_scores=False,
        tiers=(*WHOLE_TIERS, "top-k"),
        teacher="cache",
    ),
    "gkd": Objective(
        GkdSettings,
        "pairs",
        needs_reference=False,
        needs_teacher_scores=False,
        tiers=ALL_TIERS,
        teacher="live teacher",
    ),
}
