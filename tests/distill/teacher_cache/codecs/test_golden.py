"""Bytes that other versions of this program must read: what was written once is written and read the same today."""

import pytest
import torch
from safetensors.torch import load_file

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import Codec, EncodedRows, decode_samples, decode_top_k
from distill.teacher_cache.codecs.rows import as_values
from tests.distill.teacher_cache.codecs.examples import codec_for, kl_nats
from tests.distill.teacher_cache.codecs.golden import FOLDER, LENGTHS, SEQUENCE_IDS, SETTINGS


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "inputs.safetensors")


@pytest.fixture(scope="module")
def head(inputs) -> OutputHead:
    return OutputHead(inputs["weight"], inputs["bias"])


def golden(name: str, head: OutputHead) -> tuple[Codec, EncodedRows]:
    tensors = load_file(FOLDER / f"{name}.safetensors")
    return codec_for(head, **SETTINGS[name]), EncodedRows(tensors["records"], tensors.get("entry_counts"))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_inputs_give_the_golden_bytes(name, inputs, head):
    """float32 sums over the vocabulary (scores; the last 8 bytes of top-k) may differ by the order of additions."""
    codec, expected = golden(name, head)
    found = codec.encode(
        inputs["hidden_states"], inputs["target_ids"], head=head, sequence_ids=SEQUENCE_IDS, lengths=LENGTHS
    )
    sums = {"scores": 4, "top-k": 8}.get(name, 0)
    whole = found.records.shape[-1] - sums
    assert torch.equal(found.records[..., :whole], expected.records[..., :whole])
    assert (found.entry_counts is None) == (expected.entry_counts is None)
    if found.entry_counts is not None:
        assert torch.equal(found.entry_counts, expected.entry_counts)
    if sums:
        torch.testing.assert_close(
            as_values(found.records[:, whole:], torch.float32), as_values(expected.records[:, whole:], torch.float32)
        )


@pytest.mark.parametrize("name", ["exact", "exact-float32", "exact-int8", "logits-bf16"])
def test_golden_bytes_decode_to_the_distributions_they_were_made_from(name, inputs, head):
    codec, rows = golden(name, head)
    true = head.logits(inputs["hidden_states"])
    assert codec.check(rows) is None
    assert float(kl_nats(true, codec.log_probs(rows, head=head)).max()) < 2e-3


def test_golden_scores_decode_to_the_log_probs_of_the_targets(inputs, head):
    codec, rows = golden("scores", head)
    targets = inputs["target_ids"]
    expected = head.logits(inputs["hidden_states"]).log_softmax(-1).gather(-1, targets.unsqueeze(-1))[:, 0]
    torch.testing.assert_close(codec.token_log_probs(rows, targets, head=None), expected)


def test_golden_lists_decode_to_the_likeliest_tokens(inputs, head):
    lists = decode_top_k(*golden("top-k", head))
    expected = head.logits(inputs["hidden_states"]).log_softmax(-1).topk(5)
    assert torch.equal(lists.token_ids, expected.indices)
    torch.testing.assert_close(lists.log_probs, expected.values, rtol=2**-11, atol=1e-6)
    torch.testing.assert_close(lists.tail_mass, 1 - expected.values.exp().sum(-1), rtol=0, atol=1e-6)


def test_golden_draws_decode_to_twenty_tokens_each(head):
    codec, rows = golden("sampled", head)
    samples = decode_samples(codec, rows)
    assert codec.check(rows) is None
    assert int(samples.counts.sum()) == 20 * sum(LENGTHS)
