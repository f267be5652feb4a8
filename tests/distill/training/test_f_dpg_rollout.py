"""The batches of f-DPG: weights by the formula, figures, proposals, and what a checkpoint keeps."""

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from distill.models import LoadedModel
from distill.objectives.f_dpg import f_dpg_weight
from distill.training.f_dpg_rollout import FDpgRollout
from distill.training.f_dpg_settings import FDpgSettings
from distill.training.f_dpg_target import Target, answer_log_probs
from distill.training.live_teacher import LiveTeacher
from tests.distill.training.examples import new_student
from tests.distill.training.f_dpg_examples import ALONE, PROMPTS, f_dpg_settings, target_of


def rollout_of(settings: FDpgSettings, student: LoadedModel | None = None, target: Target | None = None) -> FDpgRollout:
    student = new_student() if student is None else student
    copied = replace(student, model=copy.deepcopy(student.model).eval())
    return FDpgRollout(
        student,
        target_of(settings) if target is None else target,
        PROMPTS,
        settings,
        divergence=settings.divergences[0],
        seed=1,
        world=ALONE,
        form=None,
        pad_id=0,
        proposal=copied if settings.proposal == "offline" else None,
    )


def weights_of(rollout: FDpgRollout, step: int) -> torch.Tensor:
    parts = [one.answer_weights for one in rollout.batch(step).passes]
    return torch.cat([part for part in parts if part is not None])


def shifted(student: LoadedModel) -> LoadedModel:
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return student


@pytest.mark.parametrize("proposal", ["online", "offline"])
def test_weights_are_f_dpgs_with_each_prompts_normaliser(proposal: str):
    """The first step: Z of a prompt is the mean of P / q over the fit's answers and its eight; there is no baseline."""
    settings = f_dpg_settings(proposal=proposal, divergences=["forward_kl"])
    student = new_student()
    rollout = rollout_of(settings, student)
    drawer = LiveTeacher(new_student(), max_tokens=1024, world=ALONE)
    if proposal == "offline":
        shifted(student)
    batch = rollout.batch(0)
    sequences = [s for one in batch.passes for s in _sequences(one)]
    policy = answer_log_probs(LiveTeacher(student, max_tokens=1024, world=ALONE), sequences)
    drawn_by = policy if proposal == "online" else answer_log_probs(drawer, sequences)
    tilt = rollout.target.tilt
    assert tilt is not None
    texts = [student.tokenizer.decode(list(s.completion_ids), skip_special_tokens=True) for s in sequences]
    has_e = torch.tensor([float("e" in text) for text in texts], dtype=torch.float64)
    base = answer_log_probs(rollout.target.base, sequences)
    energies = base + tilt.coefficients * has_e
    log_z = torch.zeros_like(energies)
    for prompt in {s.prompt_ids for s in sequences}:
        own = torch.tensor([s.prompt_ids == prompt for s in sequences])
        total, count = rollout.target.fit_sums[rollout._prompt_ids.index(prompt)]
        log_z[own] = (((energies - drawn_by)[own].exp().sum() + total) / (8 + count)).log()
    expected = f_dpg_weight(policy, energies - log_z, drawn_by, divergence="forward_kl")
    found = torch.cat([one.answer_weights for one in batch.passes if one.answer_weights is not None])
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    assert batch.counts.num_examples == len(sequences) == 16


def _sequences(one):
    from distill.data import TokenizedSequence

    pack = one.pack
    bounds = torch.tensor([0, *pack.lengths]).cumsum(0).tolist()
    found = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        source = int(pack.source_index[start])
        row, at = divmod(source, pack.input_ids.shape[1])
        prompt = tuple(pack.input_ids[row, : at + 1].tolist())
        found.append(TokenizedSequence(prompt, tuple(pack.target_ids[start:stop].tolist())))
        assert one.answer_lengths[number] == stop - start
    return found


def test_figures_tell_distances_of_the_step():
    rollout = rollout_of(f_dpg_settings())
    rollout.batch(0)
    found = rollout.figures({"loss": 1.0}, step=0)
    assert found["kl_to_base"] == pytest.approx(0.0, abs=1e-4)
    assert 0 <= found["total_variation"] <= 1
    assert 0 < found["effective_sample_share"] <= 1
    assert 0 <= found["moment contains e"] <= 1
    assert found["entropy"] > 0
    assert found["loss"] == 1.0


def test_no_step_is_read_ahead():
    assert rollout_of(f_dpg_settings()).read_ahead(0) is None


def test_the_proposal_follows_only_a_nearer_student():
    settings = f_dpg_settings(proposal="offline", proposal_update_steps=1)
    student = new_student()
    rollout = rollout_of(settings, student)
    rollout.batch(0)
    assert rollout.figures({}, step=0)["is_proposal_updated"] == 0.0  # alike, so not nearer
    shifted(student)
    rollout._nearness = torch.tensor([0.1, 0.2, 1.0], dtype=torch.float64)
    assert rollout.figures({}, step=1)["is_proposal_updated"] == 1.0
    own = dict(student.model.named_parameters())
    for name, parameter in rollout._proposal.model.named_parameters():
        torch.testing.assert_close(parameter, own[name])


@pytest.mark.parametrize("proposal", ["online", "offline"])
def test_what_a_checkpoint_keeps_makes_the_next_batch_the_same(tmp_path: Path, proposal: str):
    settings = f_dpg_settings(proposal=proposal)
    target = target_of(settings)
    student = new_student()
    first = rollout_of(settings, student, target)
    first.batch(0)
    if proposal == "offline":
        shifted(student)
    first.save(tmp_path)
    second = rollout_of(settings, student, target)
    second.load(tmp_path)
    if proposal == "offline":
        assert not torch.equal(next(second._proposal.model.parameters()), next(student.model.parameters())), (
            "the proposal is the one that was saved"
        )
    assert second.rewards.mean == first.rewards.mean != 0.0
    torch.testing.assert_close(weights_of(first, 1), weights_of(second, 1))


def test_prompts_without_an_allowed_answer_move_nothing():
    settings = f_dpg_settings(target={"always": [{"name": "contains", "value": "quite absent"}]})
    rollout = rollout_of(settings, target=target_of(settings))
    assert not weights_of(rollout, 0).any()
    assert rollout.figures({}, step=0)["share_allowed"] == 0.0
