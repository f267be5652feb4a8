"""Every codec against the distributions of real model families, whose heads differ in bias, scale, cap and tying."""

import pytest
import torch
import transformers

from distill.models import final_hidden_states, output_head
from distill.teacher_cache.codecs import decode_samples, decode_top_k
from distill.teacher_cache.codecs.rotation import rotated
from distill.teacher_cache.head_file import float_head
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, int8_steps, kl_nats
from tests.tiny_shape import TINY_SHAPE

_SHAPE = {**TINY_SHAPE, "vocab_size": 320}  # a tokenizer of 310 tokens, padded to a multiple of 64
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**_SHAPE, tie_word_embeddings=False),
    "qwen2": lambda: transformers.Qwen2Config(**_SHAPE, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**_SHAPE, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**_SHAPE, head_dim=8, final_logit_softcapping=3.0),
    "phi": lambda: transformers.PhiConfig(**{**_SHAPE, "num_key_value_heads": 4}),
    "cohere": lambda: transformers.CohereConfig(**_SHAPE, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(**_SHAPE, logits_scaling=8.0, embedding_multiplier=3.0),
}
NUM_TOKENS = 23


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def teacher(request):
    """Final states, the head, and the model's own log-probs; weights large enough that a scale left out would show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES[request.param](), dtype=torch.float32).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        ids = torch.randint(3, 310, (1, NUM_TOKENS))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        states = final_hidden_states(model, input_ids=ids, attention_mask=mask)[0]
        log_probs = model(input_ids=ids, attention_mask=mask).logits[0].float().log_softmax(-1)
    return states, float_head(output_head(model)), log_probs


def logit_errors(head, coordinate_errors, *, weight=None):
    """What errors of the coordinates do to a logit at worst; a soft-cap only shrinks it."""
    weight = head.weight if weight is None else weight
    return (abs(head.logit_scale) * (coordinate_errors @ weight.abs().T)).amax(-1)


def test_exact_rebuilds_the_models_distribution_within_its_bound(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="exact")
    found = codec.log_probs(encoded(codec, states, head), head=head)
    bound = logit_errors(head, 2**-8 * states.abs()) ** 2 / 2
    assert bool((kl_nats(log_probs, found) <= bound + 1e-6).all())


def test_float32_states_rebuild_it_to_float32_noise(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="exact", hidden_dtype="float32")
    torch.testing.assert_close(codec.log_probs(encoded(codec, states, head), head=head), log_probs, rtol=0, atol=1e-4)


def test_int8_rebuilds_it_within_its_bound(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="exact-int8", group_size=8)
    rows = encoded(codec, states, head)
    step = int8_steps(rows, 32).repeat_interleave(8, dim=1)
    found = codec.log_probs(rows, head=head)
    bound = logit_errors(head, step / 2, weight=rotated(head.weight) / 32) ** 2 / 2
    assert bool((kl_nats(log_probs, found) <= bound + 1e-6).all())


def test_bf16_log_probs_hold_it_within_their_bound(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="logits-bf16")
    found = codec.log_probs(encoded(codec, states, head), head=None)
    bound = 2**-17 * ((log_probs * (1 - 2**-8)).exp() * log_probs**2).sum(-1)
    assert found.shape == (NUM_TOKENS, 320)
    assert bool((kl_nats(log_probs, found) <= bound + 1e-6).all())


def test_scores_are_the_models_own(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="scores")
    targets = log_probs.argmin(-1)
    found = codec.token_log_probs(encoded(codec, states, head, target_ids=targets), targets, head=None)
    torch.testing.assert_close(found, log_probs.amin(-1), rtol=1e-5, atol=1e-4)


def test_lists_are_the_models_own_with_the_mass_of_the_rest(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="top-k", k=4)
    lists = decode_top_k(codec, encoded(codec, states, head))
    torch.testing.assert_close(lists.log_probs, log_probs.topk(4).values, rtol=2**-11, atol=1e-4)
    others = log_probs.exp().scatter(1, lists.token_ids, 0.0).sum(-1)
    torch.testing.assert_close(lists.tail_mass, others, rtol=0, atol=1e-5)


def test_drawn_tokens_name_rows_of_the_head_and_favour_the_likely(teacher):
    states, head, log_probs = teacher
    codec = codec_for(head, codec="sampled")
    rows = encoded(codec, states, head)
    samples = decode_samples(codec, rows)
    assert codec.check(rows) is None
    row = torch.repeat_interleave(torch.diff(samples.row_offsets))
    drawn = (samples.counts * log_probs[row, samples.token_ids]).sum() / samples.counts.sum()
    expected = (log_probs.exp() * log_probs).sum(-1).mean()
    assert abs(float(drawn - expected)) < 0.4
