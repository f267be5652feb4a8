import pytest
import torch

from distill.data import render_prompt
from distill.decoding.continuations import choice_tokens, continuation_log_probs

CONTINUATIONS = [[5], [6, 7], [6, 8, 9], [40]]


@pytest.fixture
def rows(loaded, prompts) -> list[list[int]]:
    return [render_prompt(loaded.tokenizer, prompt) for prompt in prompts]


def plainly(model, prompt, continuation) -> float:
    """One row, one pass, no cache."""
    logits = model(input_ids=torch.tensor([[*prompt, *continuation]])).logits[0].log_softmax(-1)
    return sum(logits[len(prompt) - 1 + step, token].item() for step, token in enumerate(continuation))


def test_batches_and_shared_prefixes_give_what_each_whole_text_gives_alone(loaded, rows):
    found = continuation_log_probs(loaded.model, rows, CONTINUATIONS, max_rows=4)
    expected = torch.tensor([[plainly(loaded.model, row, text) for text in CONTINUATIONS] for row in rows])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_all_single_tokens_together_have_probability_one(loaded, rows):
    every = [[token] for token in range(loaded.model.config.vocab_size)]
    found = continuation_log_probs(loaded.model, rows[:1], every)
    assert found.exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_what_texts_share_is_forced_and_what_ends_them_all_is_left_out():
    assert choice_tokens([[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 5, 9]]) == ([1, 2], [[3], [4], [5]])


def test_the_ending_stays_where_one_text_would_begin_another():
    """`1]]` and `10]]` with 1, 0 and ]] as tokens: without the ending, 1 would have the probability of both."""
    assert choice_tokens([[7, 1, 9], [7, 2, 9], [7, 1, 0, 9]]) == ([7], [[1, 9], [2, 9], [1, 0, 9]])
