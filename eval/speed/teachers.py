"""Teachers of random weights for the benchmarks: any shape, and as sure of themselves as a trained model."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedSequence
from distill.embedded import teacher_folder
from distill.models import LoadedModel, load_tokenizer
from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead

MAX_SCALE = 1e3
BISECTIONS = 24  # scale to 1e-4 of itself


@dataclass(frozen=True)
class TeacherShape:
    """Sizes of a Llama-shaped model."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_length_tokens: int = 1024


def random_teacher(shape: TeacherShape, *, seed: int) -> LoadedModel:
    """A float32 model of random weights with the embedded tokenizer; its vocabulary may be padded far beyond it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_length_tokens,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float().eval()
    return LoadedModel(model, load_tokenizer(teacher_folder()), "random weights", f"random-{shape}-{seed}")


def random_sequences(
    *, num_prompts: int, prompt_tokens: int, completion_tokens: int, vocab_size: int, seed: int
) -> list[TokenizedSequence]:
    """Two completions a prompt, of lengths that differ by up to half; equal seeds give equal sequences."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length: int) -> tuple[int, ...]:
        low, high = length - length // 4, length + length // 4
        drawn = int(torch.randint(low, high + 1, (), generator=generator))
        return tuple(torch.randint(5, vocab_size, (drawn,), generator=generator).tolist())

    sequences = []
    for _ in range(num_prompts):
        prompt = ids(prompt_tokens)
        sequences += [TokenizedSequence(prompt, ids(completion_tokens)) for _ in range(2)]
    return sequences


def peaked_head(
    head: OutputHead, hidden_states: Float[Tensor, "tokens hidden"], *, entropy_nats: float, decay: float = 0.0
) -> OutputHead:
    """The head in bfloat16's numbers, scaled to the mean entropy asked for.

    Random weights leave every token about equally likely, and all positions equally unsure.

    Args:
        head: of random weights.
        hidden_states: what the entropy is the mean over.
        entropy_nats: from 0 to the log of the vocabulary.
        decay: column j is weighed by j^-decay. A few directions then decide most of a logit, as in trained models:
            some positions are all but certain and others wide open.
    """
    columns = torch.arange(1, head.weight.shape[1] + 1, dtype=torch.float32)
    shaped = replace(head, weight=head.weight.float() * columns**-decay)
    logits = shaped.logits(hidden_states)
    low, high = 0.0, MAX_SCALE / float(logits.std())
    for _ in range(BISECTIONS):
        scale = (low + high) / 2
        low, high = (scale, high) if mean_entropy_nats(logits * scale) > entropy_nats else (low, scale)
    return replace(shaped, weight=(shaped.weight * high).bfloat16().float())


def mean_entropy_nats(logits: Float[Tensor, "tokens vocab"]) -> float:
    """Mean entropy of the distributions."""
    log_probs = log_softmax(logits)
    return float(-(log_probs.exp() * log_probs).sum(-1).mean())
