"""The token-level terms of an objective in the form that costs least to compute a chunk at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.numerics import widened
from distill.objectives import (
    HiddenStateRows,
    OutputHead,
    SampledRows,
    TeacherRows,
    TopKRows,
    listed_entries,
    listed_token_divergences,
    part_of_rows,
    token_divergences,
    token_losses,
)
from distill.objectives.chunk_terms import ChunkTerms, ForwardKlTerm, ListedTerm
from distill.objectives.tiers import is_forward_kl
from distill.objectives.token_losses import PairSettings


def chunk_terms(
    settings: PairSettings,
    rows: TeacherRows | None,
    *,
    is_chosen: Tensor,
    student: OutputHead,
    teacher: OutputHead | None,
) -> ChunkTerms:
    """What `token_divergences` says of each token of a pass, as a term for `fused_block_loss`; none: ().

    Lists need the student's probabilities of the listed tokens alone, forward KL from hidden states has a gradient
    without autograd; everything else is asked of whole distributions.

    Args:
        settings: the objective.
        rows: what the cache tells about the tokens of the pass.
        is_chosen: [tokens], whether a token is of a chosen answer.
        student: its head.
        teacher: its head, where the rows are hidden states.
    """
    if rows is None:
        return ()
    vocab_size = len(student.weight)
    if isinstance(rows, TopKRows | SampledRows) and _can_be_listed(settings, rows, vocab_size):
        return ListedTerm(
            _of_lists(settings, rows, is_chosen, vocab_size),
            rows.token_ids,
            listed_entries(rows, vocab_size=vocab_size),
        )
    if isinstance(rows, HiddenStateRows) and teacher is not None and _has_plain_slope(settings, rows, student, teacher):
        return ForwardKlTerm(_teacher_logits(rows, teacher, vocab_size))

    def whole(log_probs: Tensor, tokens: slice) -> Tensor:
        part = part_of_rows(rows, tokens.start, tokens.stop)
        return token_divergences(settings, log_probs, part, is_chosen=is_chosen[tokens], head=teacher)

    return (whole,)


def _can_be_listed(settings: PairSettings, rows: TopKRows | SampledRows, vocab_size: int) -> bool:
    """Tokens that the teacher's head lacks would have to be left out of the student's distribution first."""
    is_narrower = rows.vocab_size is not None and rows.vocab_size < vocab_size
    return not is_narrower and all(loss.name != "uld" for loss in token_losses(settings))


def _of_lists(
    settings: PairSettings, rows: TopKRows | SampledRows, is_chosen: Tensor, vocab_size: int
) -> Callable[[Tensor, slice], Tensor]:
    def listed(log_probs: Tensor, tokens: slice) -> Tensor:
        part = part_of_rows(rows, tokens.start, tokens.stop)
        return listed_token_divergences(settings, log_probs, part, is_chosen=is_chosen[tokens], vocab_size=vocab_size)

    return listed


def _has_plain_slope(settings: PairSettings, rows: HiddenStateRows, student: OutputHead, teacher: OutputHead) -> bool:
    """One forward KL over every token, at temperature 1; both heads have the student's tokens, none ruled out."""
    losses = token_losses(settings)
    return (
        rows.is_told is None
        and len(losses) == 1
        and losses[0].on == "both"
        and losses[0].temperature == 1.0
        and is_forward_kl(losses[0].name, losses[0].parameters)
        and len(teacher.weight) >= len(student.weight)
        and _is_finite(student.bias)
        and _is_finite(teacher.bias)
    )


def _is_finite(bias: Tensor | None) -> bool:
    """Whether no token is ruled out, of which both models would say infinity."""
    return bias is None or bool(torch.isfinite(bias).all())


def _teacher_logits(rows: HiddenStateRows, teacher: OutputHead, vocab_size: int) -> Callable[[slice], Tensor]:
    """Given the tokens that both heads have: the rest of a wider head's rows are no tokens."""
    bias = None if teacher.bias is None else widened(teacher.bias[:vocab_size])
    shared = OutputHead(widened(teacher.weight[:vocab_size]), bias, teacher.logit_scale, teacher.soft_cap)
    return lambda tokens: shared.logits(rows.hidden_states[tokens])
