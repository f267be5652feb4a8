"""Objectives: formulas only, tensors in, tensors out."""

from distill.objectives.dadpo import DadpoSettings, dadpo_loss, dadpo_quantities
from distill.objectives.divergences import DIVERGENCES, divergence
from distill.objectives.dpo import DpoSettings, dpo_loss, dpo_quantities
from distill.objectives.output_head import OutputHead, scaled_and_capped
from distill.objectives.table import (
    OBJECTIVES,
    Objective,
    ObjectiveSettings,
    PairSettings,
    SftSettings,
    pair_loss,
    sft_token_loss,
)
from distill.objectives.terms import PairLoss, PairTerms, TokenTerms
from distill.objectives.token_divergence import KdSettings, TokenDivergenceSettings, pair_token_divergence
from distill.objectives.vocabulary import SharedVocabulary, in_shared_vocabulary

__all__ = [
    "DIVERGENCES",
    "OBJECTIVES",
    "DadpoSettings",
    "DpoSettings",
    "KdSettings",
    "Objective",
    "ObjectiveSettings",
    "OutputHead",
    "PairLoss",
    "PairSettings",
    "PairTerms",
    "SftSettings",
    "SharedVocabulary",
    "TokenDivergenceSettings",
    "TokenTerms",
    "dadpo_loss",
    "dadpo_quantities",
    "divergence",
    "dpo_loss",
    "dpo_quantities",
    "in_shared_vocabulary",
    "pair_loss",
    "pair_token_divergence",
    "scaled_and_capped",
    "sft_token_loss",
]
