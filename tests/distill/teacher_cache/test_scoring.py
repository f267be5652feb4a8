import copy

import pytest
import torch

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.models import LoadedModel, output_head
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.plan import plan_shards
from distill.teacher_cache.scoring import completion_log_probs, float_head, score_shard


def shard_of(sequences):
    plan = plan_shards(sequences, shard_tokens=10_000, max_length_tokens=64, vocab_size=280)
    return plan.shards[0].sequences


def test_known_log_probs_of_a_uniform_head():
    """A head of zeros gives each of 4 tokens the log-prob -ln 4, whatever the hidden state."""
    head = OutputHead(torch.zeros(4, 2))
    found = completion_log_probs(torch.randn(3, 2), torch.tensor([0, 1, 3]), head=head)
    torch.testing.assert_close(found, torch.full((3,), -torch.tensor(4.0).log().item()))


def test_log_probs_do_not_depend_on_how_the_head_product_is_cut():
    head = OutputHead(torch.randn(50, 8), torch.randn(50), 0.5, 10.0)
    hidden_states, targets = torch.randn(7, 8), torch.arange(7)
    whole = completion_log_probs(hidden_states, targets, head=head)
    for max_logits in (1, 100, 150):
        cut = completion_log_probs(hidden_states, targets, head=head, max_logits=max_logits)
        torch.testing.assert_close(cut, whole)


def test_each_token_gets_the_models_own_log_prob(teacher: LoadedModel, sequences: list[TokenizedSequence]):
    """Row i is what position len(prompt) - 1 + i of an unpadded, unbatched forward says about completion token i."""
    shard = shard_of(sequences)
    head = float_head(output_head(teacher.model))
    scored = score_shard(teacher, shard, head=head, max_batch_tokens=40, hidden_dtype=None)
    for planned, found in zip(shard, scored, strict=True):
        prompt, completion = planned.sequence.prompt_ids, planned.sequence.completion_ids
        with torch.no_grad():
            logits = teacher.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(found.token_log_probs, expected, rtol=1e-5, atol=1e-5)
        assert (found.id, found.completion_ids.tolist()) == (planned.id, list(completion))
        assert found.hidden_states is None


@pytest.mark.parametrize("max_batch_tokens", [1, 24, 10_000])
def test_scores_do_not_depend_on_the_batch(teacher, sequences, max_batch_tokens):
    shard = shard_of(sequences)
    head = float_head(output_head(teacher.model))
    alone = score_shard(teacher, shard, head=head, max_batch_tokens=1, hidden_dtype=torch.float32)
    found = score_shard(teacher, shard, head=head, max_batch_tokens=max_batch_tokens, hidden_dtype=torch.float32)
    for one, other in zip(alone, found, strict=True):
        torch.testing.assert_close(one.token_log_probs, other.token_log_probs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.hidden_states, other.hidden_states, rtol=1e-5, atol=1e-5)


def test_hidden_states_are_rounded_after_the_log_probs_are_computed(teacher, sequences):
    shard = shard_of(sequences)
    head = float_head(output_head(teacher.model))
    full, rounded = (
        score_shard(teacher, shard, head=head, max_batch_tokens=40, hidden_dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for one, other in zip(full, rounded, strict=True):
        torch.testing.assert_close(one.token_log_probs, other.token_log_probs, rtol=0, atol=0)
        torch.testing.assert_close(one.hidden_states.bfloat16(), other.hidden_states, rtol=0, atol=0)


def test_a_teacher_that_says_nan_is_refused_by_sequence(teacher, sequences):
    broken = copy.deepcopy(teacher.model)
    head = float_head(output_head(teacher.model))
    broken.model.norm.weight.data.fill_(float("nan"))
    shard = shard_of(sequences)
    with pytest.raises(CacheError, match=f"completion token 0 of sequence {shard[0].id[:12]} is nan"):
        score_shard(
            LoadedModel(broken, teacher.tokenizer, "broken", "broken"),
            shard,
            head=head,
            max_batch_tokens=40,
            hidden_dtype=None,
        )
