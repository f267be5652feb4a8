"""Objectives: formulas only, tensors in, tensors out."""

from distill.objectives.dadpo import DadpoSettings, dadpo_loss, dadpo_quantities, length_normalised
from distill.objectives.distillm2 import DistillM2Settings
from distill.objectives.divergences import DIVERGENCES, divergence
from distill.objectives.dpo import DpoSettings, dpo_loss, dpo_quantities
from distill.objectives.energy_targets import FittedTilt, fit_tilt
from distill.objectives.f_dpg import f_dpg_loss, f_dpg_weight
from distill.objectives.f_dpo import f_dpo_reward
from distill.objectives.f_generators import FDpgDivergence, f_value, pseudo_reward
from distill.objectives.gkd import GkdSettings, is_on_policy
from distill.objectives.output_head import OutputHead, scaled_and_capped
from distill.objectives.pair_loss import pair_loss, sft_token_loss
from distill.objectives.sparse import listed_divergence, listed_entries, sampled_divergence, top_k_divergence
from distill.objectives.table import OBJECTIVES, Objective, ObjectiveSettings, SftSettings
from distill.objectives.terms import (
    HiddenStateRows,
    LogitRows,
    PairLoss,
    PairTerms,
    SampledRows,
    TeacherRows,
    TokenTerms,
    TokenValues,
    TopKRows,
    moved_rows,
    part_of_rows,
    selected_rows,
)
from distill.objectives.tiers import ALL_TIERS, WHOLE_TIERS, TierName, tiers_for
from distill.objectives.token_divergence import KdSettings, TokenDivergenceSettings, pair_means
from distill.objectives.token_losses import (
    PairSettings,
    TokenLoss,
    listed_token_divergences,
    token_divergences,
    token_loss_values,
    token_losses,
)
from distill.objectives.uld import top_k_uld, uld
from distill.objectives.vocabulary import SharedVocabulary, in_shared_vocabulary

__all__ = [
    "ALL_TIERS",
    "DIVERGENCES",
    "OBJECTIVES",
    "WHOLE_TIERS",
    "DadpoSettings",
    "DistillM2Settings",
    "DpoSettings",
    "FDpgDivergence",
    "FittedTilt",
    "GkdSettings",
    "HiddenStateRows",
    "KdSettings",
    "LogitRows",
    "Objective",
    "ObjectiveSettings",
    "OutputHead",
    "PairLoss",
    "PairSettings",
    "PairTerms",
    "SampledRows",
    "SftSettings",
    "SharedVocabulary",
    "TeacherRows",
    "TierName",
    "TokenDivergenceSettings",
    "TokenLoss",
    "TokenTerms",
    "TokenValues",
    "TopKRows",
    "dadpo_loss",
    "dadpo_quantities",
    "divergence",
    "dpo_loss",
    "dpo_quantities",
    "f_dpg_loss",
    "f_dpg_weight",
    "f_dpo_reward",
    "f_value",
    "fit_tilt",
    "in_shared_vocabulary",
    "is_on_policy",
    "length_normalised",
    "listed_divergence",
    "listed_entries",
    "listed_token_divergences",
    "moved_rows",
    "pair_loss",
    "pair_means",
    "part_of_rows",
    "pseudo_reward",
    "sampled_divergence",
    "scaled_and_capped",
    "selected_rows",
    "sft_token_loss",
    "tiers_for",
    "token_divergences",
    "token_loss_values",
    "token_losses",
    "top_k_divergence",
    "top_k_uld",
    "uld",
]
