"""A reward model where there is no EBRM."""

import pytest

from distill.errors import ModelError
from distill.reward import RewardModel, fit_reward_model, load_scorer, save_reward_model


def test_a_plain_checkpoint_is_a_reward_model(body, pairs, tmp_path):
    save_reward_model(fit_reward_model(body, pairs).model, tmp_path / "model")
    assert isinstance(load_scorer(tmp_path / "model", device="cpu"), RewardModel)


def test_nothing_is_no_scorer(tmp_path):
    with pytest.raises(ModelError):
        load_scorer(tmp_path / "none")
