"""One tier of the teacher's cache as the rows that objectives read, laid on the student's tokens."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from distill.objectives import (
    HiddenStateRows,
    LogitRows,
    SampledRows,
    TeacherRows,
    TierName,
    TopKRows,
    selected_rows,
)
from distill.teacher_cache import Samples, TeacherCache
from distill.teacher_cache.codecs import hidden_states
from distill.teacher_cache.codecs.rows import as_values


def teacher_rows(cache: TeacherCache, tier: TierName, sequence_ids: Sequence[str]) -> TeacherRows:
    """What the teacher said at the completion tokens of these sequences, end to end.

    Args:
        cache: the teacher's.
        tier: which of its tiers is read.
        sequence_ids: of the completions, as the teacher's tokenizer cut them.

    Raises:
        CacheError: the cache has no such tier, or lacks a sequence.
    """
    if tier == "top-k":
        lists = cache.top_k(sequence_ids)
        return TopKRows(lists.token_ids, lists.log_probs, lists.tail_mass, vocab_size=cache.manifest.vocab_size)
    if tier == "sampled":
        return _rectangle(cache.samples(sequence_ids), vocab_size=cache.manifest.vocab_size)
    rows = cache.records(tier, sequence_ids)
    if tier == "logits-bf16":
        return LogitRows(as_values(rows.records, torch.bfloat16))
    return HiddenStateRows(hidden_states(cache.codec(tier), rows))


def laid_on_tokens(
    rows: TeacherRows,
    *,
    teacher_lengths: Int[Tensor, " sequences"],
    student_lengths: Int[Tensor, " sequences"],
) -> TeacherRows:
    """The teacher's rows one for each of the student's tokens, where both tokenizers cut the same answers differently.

    Token i of an answer gets row i of the same answer; tokens past the teacher's last are marked as not told.

    Args:
        rows: of the teacher's tokens, end to end.
        teacher_lengths: its tokens of each answer, at least one each.
        student_lengths: the student's.

    Source:
        Boizard et al. 2024 (ULD), arXiv:2402.12030: the shorter of both lengths counts.
    """
    position = torch.cat([torch.arange(length) for length in student_lengths.tolist()])
    ends = teacher_lengths.cumsum(0)
    first = torch.repeat_interleave(ends - teacher_lengths, student_lengths)
    own = torch.repeat_interleave(teacher_lengths, student_lengths)
    laid = selected_rows(rows, first + position.minimum(own - 1))
    return replace(laid, is_told=position < own)


def _rectangle(samples: Samples, *, vocab_size: int) -> SampledRows:
    """Draws of every token side by side, filled up with entries of count 0."""
    num_entries = torch.diff(samples.row_offsets)
    column = torch.arange(int(num_entries.max()) if len(num_entries) else 0)
    is_entry = column < num_entries.unsqueeze(-1)
    entry = torch.where(is_entry, samples.row_offsets[:-1].unsqueeze(-1) + column, 0)
    counts = torch.where(is_entry, samples.counts[entry], 0)
    return SampledRows(torch.where(is_entry, samples.token_ids[entry], 0), counts, vocab_size=vocab_size)
