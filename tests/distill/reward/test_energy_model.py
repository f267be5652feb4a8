"""EBRM as a folder and as a scorer."""

import dataclasses
import shutil

import pytest
import torch

from distill.errors import ModelError
from distill.reward import (
    EnergyFitSettings,
    EnergyHeadSettings,
    EnergyRewardModel,
    RefineSettings,
    cached_states,
    energy_reward_model,
    fit_energy_head,
    fit_reward_model,
    load_energy_model,
    load_scorer,
    save_energy_model,
)
from distill.reward.energy_model import HEAD_NAME
from distill.reward.reward_model import conversations_of

SETTINGS = EnergyFitSettings(
    head=EnergyHeadSettings(reward_widths=(4,), joint_widths=(8,)), spread=2.0, num_negatives=4, num_epochs=2
)


@pytest.fixture(scope="module")
def model(body, pairs, tmp_path_factory) -> EnergyRewardModel:
    base = fit_reward_model(body, pairs).model
    states = cached_states(base, conversations_of(pairs), tmp_path_factory.mktemp("states") / "s.safetensors")
    fitted = fit_energy_head(states.states, states.rewards, SETTINGS, seed=0)
    return energy_reward_model(base, fitted, RefineSettings(max_steps=5), seed=7).calibrated(pairs)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("ebrm") / "model"
    save_energy_model(model, path)
    return path


def test_a_saved_model_scores_as_before(model, folder, pairs):
    loaded = load_energy_model(folder, device="cpu")
    torch.testing.assert_close(loaded.score(conversations_of(pairs)), model.score(conversations_of(pairs)))
    assert (loaded.refine, loaded.scale, loaded.seed) == (model.refine, model.scale, model.seed)
    assert loaded.calibration == model.calibration
    assert loaded.calibration.num_pairs == len(pairs)


def test_a_score_does_not_depend_on_what_else_is_scored(model, pairs):
    conversations = conversations_of(pairs)
    together = model.score(conversations)
    alone = torch.cat([model.score([one]) for one in conversations])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_without_steps_trusted_rewards_are_the_bases(model, pairs):
    still = dataclasses.replace(model, refine=RefineSettings(max_steps=0, trusted=1e6))
    torch.testing.assert_close(still.score(conversations_of(pairs)), model.base.score(conversations_of(pairs)))
    assert still.score([]).shape == (0,)


def test_identity_changes_with_all_that_decides(model):
    others = [
        dataclasses.replace(model, seed=8),
        dataclasses.replace(model, refine=RefineSettings(start="clamp")),
        dataclasses.replace(model, base=dataclasses.replace(model.base, calibration=None)),
    ]
    assert len({model.identity, *(other.identity for other in others)}) == 4


def test_either_kind_of_folder_is_a_scorer(folder, model):
    assert isinstance(load_scorer(folder, device="cpu"), EnergyRewardModel)
    assert load_scorer(folder / "base", device="cpu").identity == load_energy_model(folder, device="cpu").base.identity


def test_a_head_of_another_folder_is_refused(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / HEAD_NAME).write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"energy\.safetensors is missing or not the file"):
        load_energy_model(broken)


def test_a_folder_without_a_description_is_no_ebrm(folder):
    with pytest.raises(ModelError, match=r"has no energy\.json"):
        load_energy_model(folder / "base")
