import copy

import pytest
import torch
import transformers

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.models import LoadedModel
from distill.teacher_cache.codecs import HeadShape, TierSettings, make_codec
from distill.teacher_cache.plan import plan_shards
from distill.teacher_cache.scoring import LocalScorer, scorer_of

SHAPE = HeadShape(vocab_size=280, hidden_size=32)
SCORES = make_codec(TierSettings(codec="scores"), SHAPE)
EXACT = make_codec(TierSettings(codec="exact", hidden_dtype="float32"), SHAPE)


@pytest.fixture(scope="module")
def pairs(sequences) -> list[TokenizedSequence]:
    """Every prompt with two completions, side by side."""
    return [
        TokenizedSequence(one.prompt_ids, completion)
        for one, other in zip(sequences[:6], sequences[6:], strict=True)
        for completion in (one.completion_ids, other.completion_ids)
    ]


def shard_of(sequences):
    plan = plan_shards(sequences, shard_tokens=10_000, max_length_tokens=64, vocab_size=280)
    return plan.shards[0]


def log_probs_of(scorer: LocalScorer, shard, max_batch_tokens: int) -> torch.Tensor:
    shares_prompts = scorer.shares_prompts(longest=20)
    batches = shard.batches(max_batch_tokens, shares_prompts=shares_prompts)
    return torch.cat([scorer.score(batch, [SCORES])[0].records.view(torch.float32)[:, 0] for batch in batches])


@torch.no_grad()
def one_at_a_time(loaded: LoadedModel, shard) -> torch.Tensor:
    values = []
    for planned in shard.sequences:
        prompt, completion = planned.sequence.prompt_ids, planned.sequence.completion_ids
        logits = loaded.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        values.append(logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0])
    return torch.cat(values)


@pytest.mark.parametrize("max_batch_tokens", [1, 24, 10_000])
def test_each_token_gets_the_models_own_log_prob_whatever_the_batch(teacher, pairs, max_batch_tokens):
    """Row i is what position len(prompt) - 1 + i of an unpadded, unbatched forward says about completion token i."""
    shard = shard_of(pairs)
    assert len(shard.groups) == 6
    found = log_probs_of(LocalScorer(teacher), shard, max_batch_tokens)
    torch.testing.assert_close(found, one_at_a_time(teacher, shard), rtol=1e-5, atol=1e-5)


def test_a_prompt_is_read_once_for_all_its_completions(teacher, pairs):
    model = copy.deepcopy(teacher.model)
    read = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    scorer = LocalScorer(LoadedModel(model, teacher.tokenizer, "tiny", "tiny"))
    assert scorer.shares_prompts(longest=20)
    shard = shard_of(pairs[:2])
    read.clear()
    scorer.score(shard.batches(10_000)[0], [SCORES])
    assert read == [shard.groups[0].num_positions]


def test_a_model_that_takes_no_packed_rows_is_read_sequence_by_sequence(teacher, pairs):
    config = transformers.BloomConfig(vocab_size=280, hidden_size=32, n_layer=2, n_head=4)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    bloom = LoadedModel(model, teacher.tokenizer, "bloom", "bloom")
    scorer, shard = LocalScorer(bloom), shard_of(pairs)
    assert not scorer.shares_prompts(longest=20)
    found = log_probs_of(scorer, shard, 40)
    torch.testing.assert_close(found, one_at_a_time(bloom, shard), rtol=1e-5, atol=1e-5)
    groups = torch.cat([LocalScorer(bloom).score(batch, [SCORES])[0].records for batch in shard.batches(40)])
    torch.testing.assert_close(groups.view(torch.float32)[:, 0], found, rtol=1e-5, atol=1e-5)


def test_one_pass_fills_every_tier(teacher, pairs):
    scorer = LocalScorer(teacher)
    shares_prompts = scorer.shares_prompts(longest=20)
    (batch,) = shard_of(pairs).batches(10_000, shares_prompts=shares_prompts)
    scores, exact = scorer.score(batch, [SCORES, EXACT])
    states = exact.records.view(torch.float32)
    targets = torch.tensor([token for planned in batch.sequences for token in planned.sequence.completion_ids])
    again = SCORES.encode(
        states,
        targets,
        head=scorer.head,
        sequence_ids=[planned.id for planned in batch.sequences],
        lengths=[planned.num_tokens for planned in batch.sequences],
    )
    torch.testing.assert_close(scores.records.view(torch.float32), again.records.view(torch.float32))


def test_a_teacher_that_says_nan_is_refused_by_sequence(teacher, pairs):
    broken = copy.deepcopy(teacher.model)
    scorer = LocalScorer(LoadedModel(broken, teacher.tokenizer, "broken", "broken"))
    assert scorer.shares_prompts(longest=20)
    broken.model.norm.weight.data.fill_(float("nan"))
    shard = shard_of(pairs)
    with pytest.raises(CacheError, match=f"completion token 0 of sequence {shard.sequences[0].id[:12]} is not finite"):
        scorer.score(shard.batches(10_000)[0], [EXACT])


def test_a_model_in_training_scores_without_dropout_and_trains_on(teacher, pairs):
    model = copy.deepcopy(teacher.model).train()
    scorer = LocalScorer(LoadedModel(model, teacher.tokenizer, "tiny", "tiny"))
    shard = shard_of(pairs)
    found = log_probs_of(scorer, shard, 40)
    assert model.training
    torch.testing.assert_close(found, log_probs_of(LocalScorer(teacher), shard, 40))


def test_the_identity_is_that_of_model_tokenizer_and_head(teacher):
    identity = scorer_of(teacher).identity
    assert identity.fingerprint == "tiny-fingerprint"
    assert identity.shape == HeadShape(vocab_size=teacher.model.lm_head.weight.shape[0], hidden_size=32)
    scorer = LocalScorer(teacher)
    assert scorer_of(scorer) is scorer
