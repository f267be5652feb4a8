import math

import pytest
import torch

from distill.data import Conversation, Message
from distill.errors import ExportError
from distill.export.fidelity import measure_fidelity, tokenize_chats
from distill.models import load_model
from tests.distill.export.noise import disturbed


@pytest.fixture
def merged(llama_folder):
    return load_model(llama_folder)


def test_a_model_is_at_no_distance_from_itself(merged, dialogues):
    fidelity = measure_fidelity(merged, merged, chats=tokenize_chats(merged, dialogues))
    assert fidelity.num_conversations == len(dialogues)
    assert (fidelity.kl_nats, fidelity.max_kl_nats, fidelity.kl_standard_error_nats) == (0.0, 0.0, 0.0)
    assert (fidelity.same_top_token, fidelity.perplexity_ratio) == (1.0, 1.0)
    assert (fidelity.log_perplexity_ratio, fidelity.log_perplexity_ratio_standard_error) == (0.0, 0.0)
    assert (fidelity.mean_delta_p, fidelity.rms_delta_p) == (0.0, 0.0)


def test_figures_agree_with_a_plain_loop(merged, dialogues):
    """Token by token in float64, one chat at a time, positions found by their own completion marks."""
    other = disturbed(merged, std=0.02)
    kls, same, losses, deltas, chat_sums = [], [], [], [], []
    chats = tokenize_chats(merged, dialogues[:3])
    for chat in chats:
        input_ids = torch.tensor([chat.input_ids])
        with torch.inference_mode():
            p, q = (m.model(input_ids).logits[0].double().log_softmax(-1) for m in (merged, other))
        chat_sums.append([])
        for position in range(1, len(chat.input_ids)):
            if chat.completion_mask[position]:
                before, target = position - 1, chat.input_ids[position]
                deltas.append(float(q[before, target].exp() - p[before, target].exp()))
                chat_sums[-1].append(float(p[before, target] - q[before, target]))
                kls.append(float((p[before].exp() * (p[before] - q[before])).sum()))
                same.append(float(p[before].argmax() == q[before].argmax()))
                losses.append(-float(q[before, target]))
    fidelity = measure_fidelity(merged, other, chats=chats)
    assert fidelity.num_tokens == len(kls)
    assert fidelity.kl_nats == pytest.approx(sum(kls) / len(kls), rel=1e-3)
    assert fidelity.max_kl_nats == pytest.approx(max(kls), rel=1e-3)
    assert fidelity.p99_kl_nats == pytest.approx(sorted(kls)[math.ceil(0.99 * len(kls)) - 1], rel=1e-3)
    assert fidelity.same_top_token == pytest.approx(sum(same) / len(same))
    assert fidelity.perplexity == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    assert fidelity.perplexity_ratio == pytest.approx(fidelity.perplexity / fidelity.merged_perplexity)
    ratio = sum(map(sum, chat_sums)) / len(kls)
    assert fidelity.log_perplexity_ratio == pytest.approx(ratio, rel=1e-3)
    squares = sum((sum(values) - ratio * len(values)) ** 2 for values in chat_sums)
    error = math.sqrt(3 / 2 * squares) / len(kls)
    assert fidelity.log_perplexity_ratio_standard_error == pytest.approx(error, rel=1e-2)
    assert fidelity.mean_delta_p == pytest.approx(sum(deltas) / len(deltas), rel=1e-3)
    assert fidelity.rms_delta_p == pytest.approx(math.sqrt(sum(d * d for d in deltas) / len(deltas)), rel=1e-3)


def test_more_noise_is_farther(merged, dialogues):
    chats = tokenize_chats(merged, dialogues)
    near, far = (measure_fidelity(merged, disturbed(merged, std=std), chats=chats) for std in (0.005, 0.05))
    assert 0 < near.kl_nats < far.kl_nats


def test_a_single_chat_has_no_standard_error(merged, dialogues):
    fidelity = measure_fidelity(merged, merged, chats=tokenize_chats(merged, dialogues[:1]))
    assert fidelity.kl_standard_error_nats is None
    assert fidelity.log_perplexity_ratio_standard_error is None


def test_chats_without_answers_are_left_out(merged, dialogues):
    question = Conversation("question", (Message("user", "Hello?"),))
    assert [chat.id for chat in tokenize_chats(merged, [question, dialogues[0]])] == [dialogues[0].id]


def test_an_artefact_that_breaks_everywhere_is_refused(merged, dialogues):
    broken = disturbed(merged, std=0.0)
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ExportError, match="the artefact gives no logits"):
        measure_fidelity(merged, broken, chats=tokenize_chats(merged, dialogues[:2]))


def test_an_artefact_that_breaks_on_one_token_is_refused(qwen2_folder, dialogues):
    """The embedding is not tied: a token that is not a number spoils what follows it, and nothing before."""
    merged = load_model(qwen2_folder)
    broken = disturbed(merged, std=0.0)
    with torch.no_grad():
        broken.model.model.embed_tokens.weight[merged.tokenizer.eos_token_id] = torch.nan
    with pytest.raises(ExportError, match=r"not finite on \d+ tokens"):
        measure_fidelity(merged, broken, chats=tokenize_chats(merged, dialogues[:2]))
