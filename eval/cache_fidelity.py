"""How far a teacher cache is from the teacher it was made from, measured on the teacher itself.

`python -m eval.cache_fidelity CACHE TEACHER PAIRS.jsonl` prints one JSON line. The reference is the teacher's
final-norm output of the batch through its head in float32 (bias, scale and soft-cap applied). Beside it stands what
rounding the logits themselves to bfloat16 would cost.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedSequence, batches_by_length, pad_rows, read_pairs, sequence_row, tokenize_pair
from distill.models import LoadedModel, final_hidden_states, load_model, output_head
from distill.numerics import log_softmax, token_log_probs
from distill.objectives import divergence
from distill.settings import Settings
from distill.teacher_cache import CODECS, TeacherCache

MAX_BATCH_TOKENS = 4096


class CacheFidelity(Settings):
    """Means and largest values over the tokens of the measured sequences; KLs in nats a token.

    KLs are None where the cache's codec holds no distributions.
    """

    codec: str
    num_sequences: int
    num_tokens: int
    kl_nats: float | None
    max_kl_nats: float | None
    kl_of_rounded_logits_nats: float
    max_score_difference_nats: float


@torch.inference_mode()
def cache_fidelity(cache: TeacherCache, teacher: LoadedModel, sequences: Sequence[TokenizedSequence]) -> CacheFidelity:
    """Compares the cache with the teacher on `sequences`.

    Raises:
        CacheError: the cache lacks a sequence.
    """
    has_distributions = CODECS[cache.manifest.codec].has_distributions
    kls, rounded, differences = [], [], []
    lengths = [len(s.prompt_ids) + len(s.completion_ids) for s in sequences]
    for indices in batches_by_length(lengths, max_tokens=MAX_BATCH_TOKENS, max_rows=len(sequences)):
        members = [sequences[index] for index in indices]
        logits, targets = _reference(teacher, members)
        ids = [member.sequence_id for member in members]
        reference = log_softmax(logits)
        scores = token_log_probs(logits, targets)
        differences.append((cache.token_log_probs(ids) - scores).abs())
        rounded.append(divergence("forward_kl", reference, log_softmax(logits.bfloat16())))
        if has_distributions:
            kls.append(divergence("forward_kl", reference, cache.log_probs(ids)))
    kl = torch.cat(kls).double() if kls else None
    return CacheFidelity(
        codec=cache.manifest.codec,
        num_sequences=len(sequences),
        num_tokens=sum(len(values) for values in differences),
        kl_nats=None if kl is None else kl.mean().item(),
        max_kl_nats=None if kl is None else kl.max().item(),
        kl_of_rounded_logits_nats=torch.cat(rounded).double().mean().item(),
        max_score_difference_nats=torch.cat(differences).max().item(),
    )


def _reference(
    teacher: LoadedModel, members: Sequence[TokenizedSequence]
) -> tuple[Float[Tensor, "tokens vocab"], Tensor]:
    batch = pad_rows([sequence_row(member) for member in members], pad_id=0).to(teacher.model.device)
    hidden_states = final_hidden_states(
        teacher.model,
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
    )
    logits = output_head(teacher.model).logits(hidden_states[batch.completion_mask])
    return logits.cpu(), batch.target_ids[batch.completion_mask].cpu()


def main() -> None:
    """Prints the figures of a cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("teacher")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--max-sequences", type=int, default=1000)
    arguments = parser.parse_args()
    cache, teacher = TeacherCache.open(arguments.cache), load_model(arguments.teacher)
    length = cache.manifest.max_length_tokens
    pairs = [tokenize_pair(teacher.tokenizer, row, max_length_tokens=length) for row in read_pairs(arguments.pairs)]
    sequences = {s.sequence_id: s for pair in pairs if pair is not None for s in (pair.chosen, pair.rejected)}
    measured = cache_fidelity(cache, teacher, list(sequences.values())[: arguments.max_sequences])
    print(json.dumps(measured.model_dump(mode="json")))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
