import pytest
import torch

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import HeadShape, Samples, TierSettings, TopK, make_codec
from eval.stored_distributions import frequencies, stored_log_probs, with_even_tail

# Half for token 2, a quarter for token 0, the rest for the two others.
LISTS = TopK(
    token_ids=torch.tensor([[2, 0]]),
    log_probs=torch.tensor([[0.5, 0.25]]).log(),
    tail_mass=torch.tensor([0.25]),
    log_normaliser=torch.tensor([3.0]),
)


def test_the_tail_is_spread_evenly_over_tokens_that_are_not_listed():
    found = with_even_tail(LISTS, vocab_size=4).exp()
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.125, 0.5, 0.125]]))


def test_a_list_of_the_whole_vocabulary_has_no_tail():
    whole = TopK(torch.tensor([[1, 0]]), torch.tensor([[0.75, 0.25]]).log(), torch.tensor([0.0]), torch.tensor([0.0]))
    torch.testing.assert_close(with_even_tail(whole, vocab_size=2).exp(), torch.tensor([[0.25, 0.75]]))


def test_frequencies_are_counts_over_draws():
    samples = Samples(torch.tensor([1, 3, 0]), torch.tensor([3, 1, 4]), torch.tensor([0, 2, 3]), num_samples=4)
    expected = torch.tensor([[0.0, 0.75, 0.0, 0.25], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(frequencies(samples, vocab_size=4), expected)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (TierSettings(codec="exact", hidden_dtype="float32"), 1e-6),
        (TierSettings(codec="exact"), 0.02),
        (TierSettings(codec="exact-int8"), 0.02),
        (TierSettings(codec="logits-bf16"), 0.02),
        (TierSettings(codec="top-k", k=30), 0.02),
        (TierSettings(codec="sampled", num_samples=63), 0.6),
    ],
    ids=lambda value: getattr(value, "codec", None),
)
def test_every_codec_gives_back_about_the_teachers_distribution(settings: TierSettings, tolerance: float):
    torch.manual_seed(0)
    head, states = OutputHead(torch.randn(32, 16)), torch.randn(6, 16)
    codec = make_codec(settings, HeadShape(32, 16))
    rows = codec.encode(states, torch.zeros(6, dtype=torch.int64), head=head, sequence_ids=["a", "b"], lengths=[2, 4])
    found = stored_log_probs(codec, rows, head=head)
    assert found is not None
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(6))
    assert (found.exp() - head.logits(states).softmax(-1)).abs().sum(-1).max() / 2 < tolerance


def test_scores_are_no_distributions():
    head = OutputHead(torch.randn(32, 16))
    codec = make_codec(TierSettings(codec="scores"), HeadShape(32, 16))
    rows = codec.encode(torch.randn(2, 16), torch.tensor([1, 2]), head=head, sequence_ids=["a"], lengths=[2])
    assert stored_log_probs(codec, rows, head=head) is None
