"""log P of answers by a recipe's target, against its formula."""

import pytest
import torch

from distill.data.templates import render_prompt
from distill.errors import RecipeError
from distill.numerics import token_log_probs
from distill.training.f_dpg_target import answer_log_probs, answers_of
from distill.training.live_teacher import LiveTeacher
from tests.distill.training.examples import new_student
from tests.distill.training.f_dpg_examples import ALONE, HALF_E, PROMPTS, f_dpg_settings, target_of


def test_answers_have_the_log_probs_of_a_plain_pass():
    student = new_student()
    answered = answers_of(student, PROMPTS, num_samples=2, settings=f_dpg_settings(), seed=0)
    found = answer_log_probs(LiveTeacher(student, max_tokens=64, world=ALONE), answered.sequences)
    for number, sequence in enumerate(answered.sequences):
        assert list(sequence.prompt_ids) == render_prompt(student.tokenizer, PROMPTS[number // 2].messages)
        ids = torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])
        with torch.no_grad():
            logits = student.model(ids).logits[0, :-1]
        own = token_log_probs(logits, ids[0, 1:])[len(sequence.prompt_ids) - 1 :]
        assert float(found[number]) == pytest.approx(float(own.double().sum()), abs=1e-4)


def test_every_part_of_a_target_adds_its_term():
    """log P = (0.2 log a + 0.3 log te + words) / 0.5 + lambda e, and -inf without a t."""
    parts = {
        **HALF_E,
        "always": [{"name": "lacks", "value": "t"}],
        "reward": {"name": "num_words"},
        "beta_reference": 0.2,
        "beta_teacher": 0.3,
    }
    settings = f_dpg_settings(target=parts)
    target = target_of(settings)
    answered = answers_of(new_student(), PROMPTS, num_samples=16, settings=settings, seed=2)
    scored = target.scored(answered)
    own = answer_log_probs(target.base, answered.sequences)
    assert target.teacher is not None
    assert target.tilt is not None
    teachers = answer_log_probs(target.teacher, answered.sequences)
    words = torch.tensor([float(len(text.split())) for text in answered.texts], dtype=torch.float64)
    has_e = torch.tensor([float("e" in text) for text in answered.texts], dtype=torch.float64)
    expected = (0.2 * own + 0.3 * teachers + words) / 0.5 + target.tilt.coefficients * has_e
    lacks_t = torch.tensor(["t" not in text for text in answered.texts])
    torch.testing.assert_close(scored.target_log_probs, torch.where(lacks_t, expected, -torch.inf))
    torch.testing.assert_close(scored.base_log_probs, own)


def test_the_fitted_target_has_the_wanted_moment_on_the_answers_it_was_fitted_on():
    settings = f_dpg_settings()
    tilt = target_of(settings).tilt
    assert tilt is not None
    assert float(tilt.moments) == pytest.approx(0.5, abs=1e-5)
    assert 0 < tilt.effective_share <= 1


def test_the_answers_of_the_fit_tell_each_prompts_normaliser():
    """Z = E[e^(lambda e)] = 1 + s (e^lambda - 1), s the share of the prompt's answers with an e; their mean is 1/2."""
    settings = f_dpg_settings()
    target = target_of(settings)
    assert target.tilt is not None
    ratio = float(target.tilt.coefficients.exp())
    means = [total / count for total, count in target.fit_sums.values()]
    shares = [(mean - 1) / (ratio - 1) for mean in means]
    assert len(means) == len(PROMPTS)
    assert sum(share * ratio / mean for share, mean in zip(shares, means, strict=True)) / 3 == pytest.approx(0.5)
    assert all(share * 64 == pytest.approx(round(share * 64), abs=1e-6) for share in shares)


def test_a_moment_that_the_start_never_shows_is_refused():
    settings = f_dpg_settings(
        target={"moments": [{"feature": {"name": "contains", "value": "quite absent"}, "mean": 0.5}]}
    )
    with pytest.raises(RecipeError, match="reaches from 0 to 0"):
        target_of(settings)
