import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.decoding.sampling import SamplingSettings, kept_logits, next_tokens, prompt_draws
from distill.errors import RecipeError
from distill.settings import validated

PROBS = torch.tensor([[0.5, 0.2, 0.3]])


def test_a_draw_picks_the_token_whose_share_it_falls_into():
    """Shares in order of ids: [0, .5) is token 0, [.5, .7) token 1, [.7, 1) token 2."""
    draws = torch.tensor([0.0, 0.49, 0.51, 0.69, 0.71, 0.999])
    tokens = next_tokens(PROBS.log().expand(6, 3), draws, settings=SamplingSettings())
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2]


def test_frequencies_are_the_probabilities():
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    tokens = next_tokens(PROBS.log().expand(20_000, 3), draws, settings=SamplingSettings())
    torch.testing.assert_close(torch.bincount(tokens) / 20_000, PROBS[0], atol=0.015, rtol=0)


def test_temperature_two_takes_the_square_root_of_the_odds():
    """Odds 4 : 1 become 2 : 1, so the border between the tokens moves from 0.8 to 2/3."""
    logits = torch.tensor([[4.0, 1.0]]).log().expand(2, 2)
    tokens = next_tokens(logits, torch.tensor([0.66, 0.67]), settings=SamplingSettings(temperature=2.0))
    assert tokens.tolist() == [0, 1]


def test_temperature_zero_takes_the_likeliest_whatever_the_draw():
    tokens = next_tokens(PROBS.log(), torch.tensor([0.99]), settings=SamplingSettings(temperature=0))
    assert tokens.tolist() == [0]


def test_top_k_keeps_the_k_likeliest():
    kept = kept_logits(PROBS.log(), settings=SamplingSettings(top_k=2))
    assert torch.isinf(kept).tolist() == [[False, True, False]]


def test_top_p_keeps_tokens_until_their_sum_reaches_p():
    """0.5 alone is less than 0.6; with 0.3 it is 0.8, and the token of 0.2 goes."""
    assert torch.isinf(kept_logits(PROBS.log(), settings=SamplingSettings(top_p=0.6))).tolist() == [
        [False, True, False]
    ]
    assert torch.isinf(kept_logits(PROBS.log(), settings=SamplingSettings(top_p=0.4))).tolist() == [[False, True, True]]


@given(
    logits=st.lists(st.floats(-30, 30), min_size=2, max_size=9),
    draw=st.floats(0, 1, exclude_max=True),
    top_k=st.integers(0, 5),
    top_p=st.floats(0.01, 1),
)
def test_a_token_that_was_cut_is_never_drawn(logits: list[float], draw: float, top_k: int, top_p: float):
    settings = SamplingSettings(top_k=top_k, top_p=top_p)
    row = torch.tensor([logits])
    token = int(next_tokens(row, torch.tensor([draw]), settings=settings))
    assert torch.isfinite(kept_logits(row, settings=settings)[0, token])


def test_draws_belong_to_the_prompt_and_not_to_its_place():
    first = prompt_draws([[1, 2], [3], [4, 5]], num_draws=8, seed=0)
    other = prompt_draws([[4, 5], [1, 2]], num_draws=8, seed=0)
    assert torch.equal(first[[2, 0]], other)
    assert not torch.equal(first, prompt_draws([[1, 2], [3], [4, 5]], num_draws=8, seed=1))


def test_a_prompt_that_is_asked_twice_gets_two_draws():
    draws = prompt_draws([[1, 2], [1, 2]], num_draws=8, seed=0)
    assert not torch.equal(draws[0], draws[1])


def test_draws_lie_below_one():
    draws = prompt_draws([[1]], num_draws=1000, seed=0)
    assert 0 <= float(draws.min()) < float(draws.max()) < 1


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"max_new_tokens": 0}])
def test_settings_outside_their_range_are_refused(values: dict):
    with pytest.raises(RecipeError, match=next(iter(values))):
        validated(SamplingSettings, values, source="sampling")
