import math
from pathlib import Path

import pytest
import torch

from distill.models import load_model
from eval.speed.export_models import SHAPES, gain_for_entropy, held_out_chats, num_parameters, random_qwen2
from eval.speed.teachers import mean_entropy_nats


def test_the_gain_brings_two_tokens_to_the_entropy_asked_for():
    """At logits (0, x), entropy ln 2 is x = 0; one of 0.5 nats is a p with -p ln p - (1-p) ln(1-p) = 0.5."""
    logits = torch.tensor([[0.0, 1.0]])
    gain = gain_for_entropy(logits, entropy_nats=0.5)
    p = 1 / (1 + math.exp(-gain))
    assert -p * math.log(p) - (1 - p) * math.log(1 - p) == pytest.approx(0.5, abs=1e-3)


def test_held_out_chats_are_answered_and_the_same_each_time():
    chats = held_out_chats(3)
    assert all(chat.messages[-1].role == "assistant" for chat in chats)
    assert chats == held_out_chats(3)


def test_random_weights_are_as_sure_as_asked_and_padded_beyond_their_tokenizer(tmp_path: Path):
    """Parameters of the shape: 352x64 and two layers of Q (64x64+64), K and V (32x64+32 each), O 64x64, three of
    96x64 and two norms, and the last norm: 22,528 + 2 (4,160 + 4,160 + 4,096 + 18,432 + 128) + 64 = 84,544."""
    random_qwen2(SHAPES["tiny"], tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert num_parameters(tmp_path / "model") == 84_544
    assert len(loaded.tokenizer) <= 330 < loaded.model.config.vocab_size
    text = " ".join(message.content for message in held_out_chats(4)[0].messages)
    ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"][:, :64]
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids).logits[0]
    assert 1.0 < mean_entropy_nats(logits) < 3.0
