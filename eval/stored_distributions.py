"""What a tier's rows say about each token as one distribution over the vocabulary, so that codecs can be compared."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import Codec, EncodedRows, Samples, TopK, decode_samples, decode_top_k


def stored_log_probs(
    codec: Codec, rows: EncodedRows, *, head: OutputHead | None
) -> Float[Tensor, "tokens vocab"] | None:
    """The distribution that stands for each row, in nats, normalised.

    The tail mass of `top-k` is spread evenly over the tokens that are not listed; `sampled` gives the frequencies of
    its draws, -inf where a token was never drawn.

    Returns:
        None where the codec says nothing about other tokens (`scores`).
    """
    if codec.has_distributions:
        return codec.log_probs(rows, head=head)
    if codec.settings.codec == "top-k":
        return with_even_tail(decode_top_k(codec, rows), vocab_size=codec.shape.vocab_size)
    if codec.settings.codec == "sampled":
        return frequencies(decode_samples(codec, rows), vocab_size=codec.shape.vocab_size).log()
    return None


def with_even_tail(top_k: TopK, *, vocab_size: int) -> Float[Tensor, "tokens vocab"]:
    """Listed tokens as listed, the tail mass spread evenly over the others; normalised, for values are rounded."""
    num_others = vocab_size - top_k.token_ids.shape[1]
    tail = top_k.tail_mass.log() - math.log(max(num_others, 1))
    return log_softmax(tail[:, None].expand(-1, vocab_size).scatter(1, top_k.token_ids, top_k.log_probs))


def frequencies(samples: Samples, *, vocab_size: int) -> Float[Tensor, "tokens vocab"]:
    """Counts over draws, an unbiased estimate of the probabilities."""
    lengths = samples.row_offsets[1:] - samples.row_offsets[:-1]
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    found = torch.zeros(len(lengths), vocab_size)
    found[rows, samples.token_ids.long()] = samples.counts.float() / samples.num_samples
    return found
