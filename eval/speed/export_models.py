"""Models for the export on the clock: the embedded teacher, a student of yours, and Qwen2 shapes of random weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import CHAT_TEMPLATE, END_OF_TURN, PAD, SPECIAL_TOKENS, Conversation
from distill.data.records import messages_from
from distill.embedded import draw
from distill.models import count_parameters, load_model, save_model, train_tokenizer
from eval.speed.teachers import mean_entropy_nats

ENTROPY_NATS = 2.0
BISECTIONS = 24
MAX_GAIN = 1e3
SEED = 0
_NUM_TOKENIZER_TEXTS = 200
_QWEN2_TOKENS = (*SPECIAL_TOKENS, "<|endoftext|>")  # the last is one that Qwen2's tokenizer class adds


@dataclass(frozen=True)
class QwenShape:
    """Sizes of a Qwen2 model with tied embeddings."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    intermediate_size: int
    tokenizer_size: int = 2048


SHAPES = {
    "0.1b": QwenShape(32_768, 768, 12, 12, 2, 2048),
    "0.5b": QwenShape(151_936, 896, 24, 14, 2, 4864),
    "tiny": QwenShape(352, 64, 2, 4, 2, 96, tokenizer_size=330),
}


def num_parameters(folder: Path) -> int:
    """Of the model in `folder`; a shared matrix counts once."""
    return count_parameters(load_model(folder).model)


def held_out_chats(num_chats: int) -> list[Conversation]:
    """Answered dialogues of the embedded test split."""
    return _drawn("test", num_chats)


def random_qwen2(shape: QwenShape, folder: Path) -> None:
    """Writes a bfloat16 Qwen2 of random weights, and a tokenizer that its vocabulary is padded far beyond.

    Random weights leave all tokens about equally likely, and a KL would measure nothing: the last norm is scaled
    until the mean entropy on the test dialogues is `ENTROPY_NATS`.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    texts = [message.content for chat in _drawn("teacher", _NUM_TOKENIZER_TEXTS) for message in chat.messages]
    tokenizer = train_tokenizer(
        texts,
        vocab_size=shape.tokenizer_size,
        chat_template=CHAT_TEMPLATE,
        special_tokens=_QWEN2_TOKENS,
        end_of_turn=END_OF_TURN,
        pad=PAD,
        architecture="qwen2",
    )
    config = Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Qwen2ForCausalLM(config).eval()
    answers = " ".join(message.content for chat in held_out_chats(4) for message in chat.messages)
    ids = tokenizer(answers, return_tensors="pt")["input_ids"][:, :128]
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0]
    with torch.no_grad():
        model.model.norm.weight.mul_(gain_for_entropy(logits, entropy_nats=ENTROPY_NATS))
    save_model(model, tokenizer, folder, dtype=torch.bfloat16)


def gain_for_entropy(logits: Float[Tensor, "tokens vocab"], *, entropy_nats: float) -> float:
    """The factor that brings the mean entropy of the distributions down to `entropy_nats`."""
    low, high = 0.0, MAX_GAIN / float(logits.std())
    for _ in range(BISECTIONS):
        gain = (low + high) / 2
        low, high = (gain, high) if mean_entropy_nats(logits * gain) > entropy_nats else (low, gain)
    return high


def _drawn(split: str, num_chats: int) -> list[Conversation]:
    rows = draw(split, num_dialogues=num_chats, seed=SEED)
    return [
        Conversation(str(row["id"]), messages_from(row["messages"], where=f"embedded {split} {row['id']}"))
        for row in rows
    ]
