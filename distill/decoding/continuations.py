"""How likely a model is to go on with given texts: one pass over the prompts, one more over each longer text."""

import copy
import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data.packing import batches_by_length
from distill.decoding.batch import RunningBatch
from distill.models.adapters import LanguageModel
from distill.numerics import log_softmax, token_log_probs


@torch.inference_mode()
def continuation_log_probs(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    max_tokens: int = 16_384,
    max_rows: int = 32,
) -> Float[Tensor, "prompts continuations"]:
    r"""Log-probability of each continuation after each prompt: :math:`\sum_i \log p(c_i \mid prompt, c_{<i})`, in nats.

    Prompts of like length are read together, once. Continuations of one token cost nothing more; each longer one is
    read once more on a copy of the prompts' key-value cache.

    Args:
        model: in evaluation mode.
        prompts: token ids, none empty.
        continuations: token ids, none empty; the same after every prompt.
        max_tokens: prompt tokens of a batch, padding included.
        max_rows: prompts of a batch.

    Returns:
        On the CPU, in the order of prompts and continuations.
    """
    result = torch.empty(len(prompts), len(continuations))
    for rows in batches_by_length([len(prompt) for prompt in prompts], max_tokens=max_tokens, max_rows=max_rows):
        batch = RunningBatch.start([prompts[row] for row in rows], model=model)
        first = log_softmax(batch.logits)
        for column, continuation in enumerate(continuations):
            log_probs = first[:, continuation[0]]
            if len(continuation) > 1:
                log_probs = log_probs + _rest(batch, continuation, model=model)
            result[rows, column] = log_probs.cpu().to(result.dtype)
    return result


def choice_tokens(texts: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """What several texts begin with in common, and how each goes on from there.

    What all of them end in is left out, too, where then none is the beginning of another: it tells nothing apart, and
    texts of one token need no second pass. Else (`1]]` and `10]]`) the whole texts are kept.

    Args:
        texts: token ids of two or more different texts, none of which begins another.
    """
    shared = sum(1 for _ in itertools.takewhile(_all_equal, zip(*texts, strict=False)))
    rests = [list(text[shared:]) for text in texts]
    ending = sum(1 for _ in itertools.takewhile(_all_equal, zip(*(reversed(rest) for rest in rests), strict=False)))
    ending = min(ending, *(len(rest) - 1 for rest in rests))
    cut = [rest[: len(rest) - ending] for rest in rests]
    is_told_apart = all(one[: len(other)] != other for one, other in itertools.permutations(cut, 2))
    return list(texts[0][:shared]), cut if is_told_apart else rests


def _all_equal(tokens: tuple[int, ...]) -> bool:
    return len(set(tokens)) == 1


def _rest(batch: RunningBatch, continuation: Sequence[int], *, model: LanguageModel) -> Float[Tensor, " batch"]:
    """Log-probability of all tokens but the first, which is read on a copy of the cache."""
    tokens = torch.tensor(continuation, device=batch.logits.device)
    num_read, num_rows = len(continuation) - 1, len(batch.rows)
    output = model(
        input_ids=tokens[:-1].expand(num_rows, num_read),
        attention_mask=torch.cat([batch.attention_mask, batch.attention_mask.new_ones(num_rows, num_read)], dim=-1),
        position_ids=batch.position_ids + torch.arange(num_read, device=tokens.device),
        past_key_values=copy.deepcopy(batch.cache),
        use_cache=True,
    )
    return token_log_probs(output.logits, tokens[1:].expand(num_rows, num_read)).sum(-1)
