"""Numbers for answers: scalar-head reward models, fitted on preference pairs; EBRM, which refines their rewards."""

from distill.reward.energy_fit import EnergyFitSettings, FittedEnergy, RewardScale, fit_energy_head
from distill.reward.energy_head import EnergyHead, EnergyHeadSettings
from distill.reward.energy_model import (
    EnergyRewardModel,
    energy_reward_model,
    load_energy_model,
    save_energy_model,
)
from distill.reward.fit import (
    FittedReward,
    RewardFitSettings,
    bradley_terry_loss,
    fit_head,
    fit_reward_model,
    with_head,
)
from distill.reward.refine import RefineSettings
from distill.reward.reward_model import (
    Calibration,
    RewardModel,
    conversations_of,
    load_reward_model,
    pair_accuracy,
    save_reward_model,
)
from distill.reward.scorer import Scorer, load_scorer
from distill.reward.states_file import RewardStates, cached_states

__all__ = [
    "Calibration",
    "EnergyFitSettings",
    "EnergyHead",
    "EnergyHeadSettings",
    "EnergyRewardModel",
    "FittedEnergy",
    "FittedReward",
    "RefineSettings",
    "RewardFitSettings",
    "RewardModel",
    "RewardScale",
    "RewardStates",
    "Scorer",
    "bradley_terry_loss",
    "cached_states",
    "conversations_of",
    "energy_reward_model",
    "fit_energy_head",
    "fit_head",
    "fit_reward_model",
    "load_energy_model",
    "load_reward_model",
    "load_scorer",
    "pair_accuracy",
    "save_energy_model",
    "save_reward_model",
    "with_head",
]
