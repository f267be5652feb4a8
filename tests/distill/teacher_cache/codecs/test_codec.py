import pytest
import torch
from torch import Tensor

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import decode_top_k
from distill.teacher_cache.codecs.codec import Codec, encode_tiers
from distill.teacher_cache.codecs.rows import EncodedRows, joined
from tests.distill.teacher_cache.codecs.examples import (
    CODEC_SETTINGS,
    codec_for,
    encoded,
    label,
    some_head,
    some_states,
)


@pytest.fixture(params=CODEC_SETTINGS, ids=label)
def tier(request) -> dict[str, object]:
    return request.param


def same_rows(one: EncodedRows, other: EncodedRows) -> bool:
    counts = one.entry_counts is other.entry_counts or torch.equal(one.entry_counts, other.entry_counts)
    return counts and torch.equal(one.records, other.records)


def assert_agree(codec: Codec, one: EncodedRows, other: EncodedRows) -> None:
    """Equal bytes; where sums over the vocabulary are stored in float32, equal to the order of their additions."""
    if codec.name == "scores":
        torch.testing.assert_close(one.records.view(torch.float32), other.records.view(torch.float32))
    elif codec.name == "top-k":
        torch.testing.assert_close(vars(decode_top_k(codec, one)), vars(decode_top_k(codec, other)))
    else:
        assert same_rows(one, other)


def dyadic(tokens: int) -> tuple[Tensor, OutputHead]:
    """States and a head whose products are exact in float32, however they are grouped."""
    head = some_head()
    return (some_states(tokens) * 64).round() / 64, OutputHead((head.weight * 64).round() / 64)


def test_rows_take_the_bytes_that_the_codec_says(tier):
    head, states = some_head(), some_states(7)
    codec = codec_for(head, **tier)
    rows = encoded(codec, states, head)
    assert rows.num_tokens == 7
    if codec.row_bytes is None:
        assert rows.size_bytes <= 7 * codec.bytes_per_token()
    else:
        assert rows.records.shape == (7, codec.row_bytes)
        assert codec.bytes_per_token() == codec.row_bytes


def test_what_a_codec_wrote_passes_its_own_check(tier):
    head = some_head(soft_cap=5.0, scale=-0.5)
    codec = codec_for(head, **tier)
    assert codec.check(encoded(codec, some_states(30), head)) is None


@pytest.mark.parametrize("max_logits", [1, 600, 1700])
def test_rows_do_not_depend_on_how_the_head_product_is_cut(tier, max_logits):
    states, head = dyadic(12)
    codec = codec_for(head, **tier)
    targets = torch.arange(12)
    names, lengths = ["a", "b", "c"], [5, 3, 4]
    whole = codec.encode(states, targets, head=head, sequence_ids=names, lengths=lengths)
    (cut,) = encode_tiers(
        [codec], states, targets, head=head, sequence_ids=names, lengths=lengths, max_logits=max_logits
    )
    assert_agree(codec, whole, cut)


def test_a_sequence_gets_the_same_bytes_alone_and_beside_others(tier):
    states, head = dyadic(12)
    targets = torch.arange(12)
    codec = codec_for(head, **tier)
    together = codec.encode(states, targets, head=head, sequence_ids=["a", "b", "c"], lengths=[5, 3, 4])
    alone = codec.encode(states[5:8], targets[5:8], head=head, sequence_ids=["b"], lengths=[3])
    assert_agree(codec, together.split([5, 3, 4])[1], alone)
    assert same_rows(joined(together.split([5, 3, 4])), together)


def test_tiers_encoded_together_are_those_encoded_one_by_one():
    head, states = some_head(), some_states(9)
    codecs = [codec_for(head, **settings) for settings in CODEC_SETTINGS]
    targets = torch.arange(9)
    together = encode_tiers(codecs, states, targets, head=head, sequence_ids=["0"], lengths=[9])
    for codec, rows in zip(codecs, together, strict=True):
        assert same_rows(rows, encoded(codec, states, head, target_ids=targets))


def test_codecs_of_hidden_states_never_multiply_with_the_head():
    head, states = some_head(), some_states(4)

    class Refusing(OutputHead):
        def logits(self, hidden_states):
            raise AssertionError("a head product was made")

    refusing = Refusing(head.weight, head.bias)
    for settings in CODEC_SETTINGS[1:4]:
        assert encoded(codec_for(head, **settings), states, refusing).num_tokens == 4


def test_values_that_are_not_finite_are_found_in_what_was_written():
    head = some_head()
    states = some_states(6)
    states[4, 0] = float("nan")
    for settings in [{"codec": "scores"}, {"codec": "exact"}, {"codec": "logits-bf16"}]:
        codec = codec_for(head, **settings)
        assert "token 4" in str(codec.check(encoded(codec, states, head)))


def test_codecs_without_distributions_name_the_command_that_adds_one():
    head = some_head()
    for settings in [{"codec": "scores"}, {"codec": "top-k", "k": 5}, {"codec": "sampled"}]:
        codec = codec_for(head, **settings)
        rows = encoded(codec, some_states(2), head)
        with pytest.raises(CacheError, match=r"no whole distributions(.|\n)*distill cache RECIPE cache.codec=exact"):
            codec.log_probs(rows, head=head)


def test_rows_of_another_shape_are_not_believed(tier):
    head = some_head()
    codec = codec_for(head, **tier)
    rows = encoded(codec, some_states(3), head)
    wrong = [EncodedRows(rows.records.int(), rows.entry_counts), EncodedRows(rows.records.unsqueeze(0), None)]
    if rows.entry_counts is None:
        wrong.append(EncodedRows(rows.records, torch.ones(3, dtype=torch.uint8)))
        wrong.append(EncodedRows(rows.records[:, :-1]))
    else:
        wrong.append(EncodedRows(rows.records, rows.entry_counts.int()))
    assert all(codec.check(one) is not None for one in wrong)
