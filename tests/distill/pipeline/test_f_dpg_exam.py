"""The exam of f-DPG's students."""

import pytest

from distill.pipeline.f_dpg_exam import FDpgExam
from tests.distill.training.examples import new_student
from tests.distill.training.f_dpg_examples import PROMPTS, f_dpg_settings, target_of


def test_the_start_is_as_far_from_the_target_as_its_tilt_says_and_not_from_itself():
    settings = f_dpg_settings(num_measured_samples=32)
    target = target_of(settings)
    assert target.tilt is not None
    exam = FDpgExam(target, PROMPTS, settings, seed=0)
    exam.sit("start", new_student())
    exam.sit("other", new_student(1))
    start, other = exam.rows()
    assert (start.model, other.model) == ("start", "other")
    assert start.kl_to_start.mean == pytest.approx(0.0, abs=1e-4)
    assert start.kl_target_to_model.mean > 0
    assert 0 < start.total_variation.mean < 1
    assert start.share_allowed is None
    assert other.kl_to_start.mean > 0
    found = exam.target_moments()["contains e"]
    assert 0 <= found.low < found.mean < found.high <= 1


def test_the_mean_of_a_target_with_one_moment_is_that_of_its_weights():
    """Answers of the start alone: p(e) = s e^l / (1 - s + s e^l) of each prompt, s its share of answers with an e."""
    settings = f_dpg_settings(num_measured_samples=32)
    target = target_of(settings)
    assert target.tilt is not None
    exam = FDpgExam(target, PROMPTS, settings, seed=0)
    exam.sit("start", new_student())
    (paper,) = exam._papers
    ratio = target.tilt.coefficients.exp()
    shares = paper.scored.features[:, 0].view(3, 32).mean(1)
    expected = (shares * ratio / (1 - shares + shares * ratio)).mean()
    assert exam.target_moments()["contains e"].mean == pytest.approx(float(expected), abs=1e-4)


def test_prompts_without_an_allowed_answer_count_for_no_distance():
    always = {"always": [{"name": "lacks", "value": "e"}], "moments": []}
    settings = f_dpg_settings(target=always, num_measured_samples=16)
    exam = FDpgExam(target_of(settings), PROMPTS, settings, seed=0)
    exam.sit("start", new_student())
    (row,) = exam.rows()
    assert row.share_allowed is not None
    assert row.share_allowed.mean < 1
    # Where a share s is allowed, p is the start without the rest: TV = 1 - s, KL(p || start) = -log s.
    assert row.total_variation.mean == pytest.approx(1 - row.share_allowed.mean, abs=1e-4)
