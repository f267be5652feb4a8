import pytest
import torch

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import HeadShape
from eval.distortion import distortion
from eval.scored_tokens import ScoredTokens
from eval.speed.candidates import Block, candidates_for, longest_list

VOCAB, HIDDEN, TOKENS = 300, 32, 5


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    head, states = OutputHead(torch.randn(VOCAB, HIDDEN)), torch.randn(TOKENS, HIDDEN)
    tokens = ScoredTokens(states, torch.zeros(TOKENS, dtype=torch.int64), ("a", "b"), (2, 3))
    log_probs = head.logits(states).log_softmax(-1)
    return Block(tokens, head, log_probs, states, log_probs)


def _stored(block: Block) -> dict[str, tuple[float, torch.Tensor]]:
    found = {c.name: c.store(block) for c in candidates_for(None, shape=HeadShape(VOCAB, HIDDEN))}
    return {name: (size / TOKENS, log_probs) for name, (size, log_probs) in found.items()}


def test_bytes_a_token_are_those_of_the_layout(block: Block):
    """300 tokens take 9 bits: 64 of them 72 bytes, their float16 values 128, the two sums 8."""
    stored = _stored(block)
    assert stored["`exact`"][0] == 2 * HIDDEN
    assert stored["`exact-int8`, groups of 16"][0] == HIDDEN + HIDDEN // 16
    assert stored["`logits-bf16`"][0] == stored["raw logits in bfloat16"][0] == 2 * VOCAB
    assert stored["`top-k`, k=64"][0] == 72 + 128 + 8
    assert stored["list of 64, renormalised (int32 + float32)"][0] == 64 * 8


def test_whole_distributions_are_nearer_than_lists_and_lists_without_tail_infinitely_far(block: Block):
    kl = {name: float(distortion(block.log_probs, found).kl_nats.mean()) for name, (_, found) in _stored(block).items()}
    assert kl["`exact`"] < kl["`exact-int8`, groups of 8"] < kl["`top-k`, k=16"]
    assert kl["`top-k`, k=64"] < kl["`top-k`, k=16"]
    assert kl["list of 64, renormalised (int32 + float32)"] == float("inf")


def test_the_longest_list_of_a_size_fits_and_one_more_does_not():
    """300 tokens take 9 bits: k tokens ceil(9 k / 8) + 2 k + 8 bytes; 30 of them 34 + 60 + 8 = 102, 31 of them 105."""
    assert longest_list(102, shape=HeadShape(VOCAB, HIDDEN)) == 30
    assert longest_list(104, shape=HeadShape(VOCAB, HIDDEN)) == 30
    assert longest_list(3, shape=HeadShape(VOCAB, HIDDEN)) == 1


def test_peers_are_told_from_ours():
    names = {c.name: c.origin for c in candidates_for(None, shape=HeadShape(VOCAB, HIDDEN))}
    assert names["`exact`"] == "ours"
    assert names["raw logits in bfloat16"] == "peer"
