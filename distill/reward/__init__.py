"""Numbers for answers: scalar-head reward models, loaded, fitted on preference pairs, saved."""

from distill.reward.fit import FittedReward, RewardFitSettings, bradley_terry_loss, fit_reward_model
from distill.reward.reward_model import Calibration, RewardModel, load_reward_model, pair_accuracy, save_reward_model

__all__ = [
    "Calibration",
    "FittedReward",
    "RewardFitSettings",
    "RewardModel",
    "bradley_terry_loss",
    "fit_reward_model",
    "load_reward_model",
    "pair_accuracy",
    "save_reward_model",
]
