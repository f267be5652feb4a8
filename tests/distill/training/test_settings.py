import pytest

from distill.errors import RecipeError
from distill.settings import validated
from distill.training import TrainSettings
from tests.distill.training.examples import settings

BASE = {
    "objective": {"name": "sft"},
    "learning_rate": 1e-3,
    "max_steps": 4,
    "global_batch_size": 8,
    "micro_batch_size": 8,
}


def refusal(**changes: object) -> str:
    with pytest.raises(RecipeError) as caught:
        validated(TrainSettings, BASE | changes, source="train")
    return str(caught.value)


def test_exactly_one_of_epochs_and_steps_is_given():
    assert "give either num_epochs or max_steps" in refusal(num_epochs=1.0)
    assert "give either num_epochs or max_steps" in refusal(max_steps=None)


def test_a_rate_of_zero_is_refused():
    assert "learning_rate is 0" in refusal(learning_rate=0)


def test_a_beta_of_one_is_refused():
    assert "betas is [0.9, 1.0]" in refusal(betas=[0.9, 1.0])


def test_a_misspelt_key_gets_a_suggestion():
    assert "did you mean learning_rate?" in refusal(learning_rat=1e-3)


def test_the_lowest_rate_is_a_share_of_the_peak():
    assert settings(learning_rate=0.4, min_lr_ratio=0.25).min_lr == pytest.approx(0.1)


def test_what_compares_held_out_losses_needs_more_than_one():
    assert "keep_best compare held-out losses, and there is one, at the end" in refusal(keep_best=True)
    assert "(evaluate_every_steps=200)" in refusal(stop_after=3)
    assert settings(stop_after=3, keep_best=True, evaluate_every_steps=5).stop_after == 3


def test_the_best_model_is_one_that_is_kept():
    assert "no best checkpoint is kept (keep_best=true)" in refusal(final_model="best")


def test_an_improvement_that_stops_nothing_is_refused():
    assert "min_improvement is 0.1, and nothing stops the run" in refusal(min_improvement=0.1)


def test_conversations_are_not_held_out_twice():
    assert "objective sft learns from conversations" in refusal(num_valid_pairs=3)
    assert settings(objective={"name": "dpo"}, num_valid_pairs=3).num_valid_pairs == 3


def test_an_average_that_never_moves_is_refused():
    assert "ema_decay is 1" in refusal(ema_decay=1)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "max_grad_norm", "explosion_factor"])
def test_an_infinite_number_is_refused(name: str):
    assert f"{name} is inf" in refusal(**{name: float("inf")})
