"""States on disk: whole, resumed, and never another model's."""

import dataclasses

import pytest
import torch

from distill.errors import DataError
from distill.reward import RewardModel, cached_states, fit_reward_model
from distill.reward.reward_model import conversations_of
from distill.reward.states_file import read_states, states_fingerprint


def test_states_and_rewards_are_the_models(body, pairs, tmp_path):
    model, conversations = fit_reward_model(body, pairs).model, conversations_of(pairs)
    path = tmp_path / "states.safetensors"
    made = cached_states(model, conversations, path, answers_per_part=5)
    torch.testing.assert_close(made.states, model.embeddings(conversations))
    torch.testing.assert_close(made.rewards, model.score(conversations))
    back = read_states(path)
    assert torch.equal(back.states, made.states)
    assert torch.equal(back.rewards, made.rewards)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_body_alone_has_no_rewards(body, pairs, tmp_path):
    assert cached_states(RewardModel(body), conversations_of(pairs), tmp_path / "s.safetensors").rewards is None


def test_what_stands_is_not_read_again_and_a_cut_run_goes_on(body, pairs, tmp_path, monkeypatch):
    conversations, path = conversations_of(pairs), tmp_path / "s.safetensors"
    model, asked, embeddings = RewardModel(body), [], RewardModel.embeddings

    def counted(self, part):
        asked.append(len(part))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return embeddings(self, part)

    monkeypatch.setattr(RewardModel, "embeddings", counted)
    with pytest.raises(KeyboardInterrupt):
        cached_states(model, conversations, path, answers_per_part=6)
    assert not path.exists()
    whole = cached_states(model, conversations, path, answers_per_part=6)
    assert asked == [6, 6, 6, 4]
    cached_states(model, conversations, path, answers_per_part=6)
    assert asked == [6, 6, 6, 4]
    torch.testing.assert_close(whole.states, embeddings(model, conversations))


def test_states_of_another_model_or_other_texts_are_made_anew(body, pairs, tmp_path):
    path, conversations = tmp_path / "s.safetensors", conversations_of(pairs)
    model, other = RewardModel(body), RewardModel(dataclasses.replace(body, fingerprint="another"))
    assert states_fingerprint(model, conversations) != states_fingerprint(other, conversations)
    cached_states(model, conversations, path)
    assert len(cached_states(model, conversations[:3], path).states) == 3


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"not a tensor")
    with pytest.raises(DataError, match="is no safetensors file"):
        read_states(path)
