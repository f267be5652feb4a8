"""Divergences from a teacher known in part: a list of its likeliest tokens, or tokens drawn from it."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import log_softmax, widened
from distill.objectives.divergences import divergence
from distill.objectives.terms import SampledRows, TopKRows
from distill.objectives.tiers import is_forward_kl
from distill.objectives.vocabulary import in_shared_vocabulary


def top_k_divergence(
    name: str,
    student_log_probs: Float[Tensor, "tokens vocab"],
    rows: TopKRows,
    *,
    parameters: Mapping[str, float] | None = None,
) -> Float[Tensor, " tokens"]:
    r"""A divergence between what is left of both distributions when all unlisted tokens are one, the ghost token.

    .. math:: D\left( (p_1, \dots, p_k, p_g) \,\|\, (q_1, \dots, q_k, q_g) \right), \quad
              p_g = 1 - \sum_i p_i, \quad q_g = 1 - \sum_i q_i

    A lower bound of the divergence of the whole distributions (the data-processing inequality of f-divergences),
    equal to it where at most one token is left or both spread the tail alike. Its gradient, unlike that of a list
    made to sum to one, vanishes only where every listed probability agrees.

    Args:
        name: an f-divergence of `DIVERGENCES`; forward_kl gives the ghost-token loss of the source.
        student_log_probs: normalised over the student's vocabulary.
        rows: the teacher's lists; ids beyond the student's vocabulary, padding of a wider head, count as impossible.
        parameters: the divergence's own.

    Raises:
        RecipeError: there is no such divergence, or it has no such parameter.

    Source:
        Anshumann et al. 2025, arXiv:2503.16870, sec. 3 (ghost token, forward KL).
        Differs: the other divergences of the same coarse distributions are ours.
    """
    student_log_probs = _over_the_teachers_tokens(student_log_probs, rows.vocab_size)
    is_possible = listed_entries(rows, vocab_size=student_log_probs.shape[-1])
    student = with_ghost(student_log_probs, rows, is_possible)
    return listed_divergence(name, student, rows, is_listed=is_possible, parameters=parameters)


def listed_entries(rows: TopKRows | SampledRows, *, vocab_size: int) -> Bool[Tensor, "tokens entries"]:
    """Which entries of the lists count: ids that the student's vocabulary has; of drawn tokens, those that came up."""
    is_possible = rows.token_ids < vocab_size
    return is_possible if isinstance(rows, TopKRows) else is_possible & (rows.counts > 0)


def listed_divergence(
    name: str,
    student_log_probs: Float[Tensor, "tokens events"],
    rows: TopKRows | SampledRows,
    *,
    is_listed: Bool[Tensor, "tokens entries"],
    parameters: Mapping[str, float] | None = None,
) -> Float[Tensor, " tokens"]:
    """`top_k_divergence` or `sampled_divergence` of a student known as the teacher is.

    Args:
        name: the divergence.
        student_log_probs: of each entry, -inf where it does not count, and last of all other tokens together.
        rows: the teacher's lists or drawn tokens.
        is_listed: which entries count (`listed_entries`).
        parameters: the divergence's own.

    Raises:
        RecipeError: the divergence cannot be had from such rows.
    """
    if isinstance(rows, SampledRows):
        _require_forward_kl(name, parameters or {})
        return _cross_entropy(student_log_probs[..., :-1], rows, is_listed)
    return divergence(name, teacher_with_ghost(rows, is_listed), student_log_probs, **dict(parameters or {}))


def sampled_divergence(
    name: str,
    student_log_probs: Float[Tensor, "tokens vocab"],
    rows: SampledRows,
    *,
    parameters: Mapping[str, float] | None = None,
) -> Float[Tensor, " tokens"]:
    r"""Forward KL plus the teacher's entropy: the cross-entropy, estimated without bias from drawn tokens.

    .. math:: -\sum_v \frac{c_v}{N} \log q(v), \quad
              E = KL(p \| q) + H(p), \quad E[\nabla] = \nabla KL(p \| q)

    The entropy does not depend on the student and is left out, for no unbiased estimate of it can be had from
    counts. So values compare between students of one teacher, not with the other tiers' forward KL.

    Args:
        name: forward_kl, or the end of a family that is forward KL: nothing else is linear in p.
        student_log_probs: normalised over the student's vocabulary.
        rows: ids and counts; a row without counts, or only with ids beyond the student's vocabulary, gives 0.
        parameters: the divergence's own.

    Raises:
        RecipeError: the divergence is another one.

    Source:
        Anshumann et al. 2025, arXiv:2503.16870, sec. 3.3 (proposal temperature 1).
    """
    _require_forward_kl(name, parameters or {})
    student_log_probs = _over_the_teachers_tokens(student_log_probs, rows.vocab_size)
    is_counted = listed_entries(rows, vocab_size=student_log_probs.shape[-1])
    drawn = student_log_probs.gather(-1, torch.where(is_counted, rows.token_ids, 0))
    return _cross_entropy(drawn, rows, is_counted)


def _cross_entropy(
    drawn: Float[Tensor, "tokens entries"], rows: SampledRows, is_counted: Bool[Tensor, "tokens entries"]
) -> Float[Tensor, " tokens"]:
    """The mean of -log q over the counted draws; 0 of none."""
    counts = torch.where(is_counted, rows.counts, 0).to(drawn.dtype)
    shares = counts / counts.sum(-1, keepdim=True).clamp_min(1.0)
    return -torch.where(is_counted, shares * torch.where(is_counted, drawn, 0.0), 0.0).sum(-1)


def _require_forward_kl(name: str, parameters: Mapping[str, float]) -> None:
    if not is_forward_kl(name, parameters):
        raise RecipeError(
            f"{name} is asked for from tokens drawn from the teacher",
            why="only forward KL is linear in the teacher's probabilities; of others counts give a biased estimate",
            fix="choose forward_kl, or add a tier: distill cache RECIPE cache.codec=[sampled,top-k]",
        )


def teacher_with_ghost(rows: TopKRows, is_possible: Bool[Tensor, "tokens k"]) -> Float[Tensor, "tokens events"]:
    """Log-probs of the listed tokens and, last, of all others together.

    Made to sum to one: the list is stored rounded, and would miss it by some thousandths.
    """
    listed = torch.where(is_possible, widened(rows.log_probs.detach()), -torch.inf)
    return log_softmax(torch.cat([listed, widened(rows.tail_mass.detach()).log().unsqueeze(-1)], dim=-1))


def with_ghost(
    student_log_probs: Float[Tensor, "tokens vocab"], rows: TopKRows, is_possible: Bool[Tensor, "tokens k"]
) -> Float[Tensor, "tokens events"]:
    """The student's log-probs of the listed tokens and, last, of all others together.

    The others are summed, not taken from one: one less the list is noise where the list holds almost all.
    """
    ids = torch.where(is_possible, rows.token_ids, 0)
    listed = torch.where(is_possible, student_log_probs.gather(-1, ids), -torch.inf)
    # Adding, not writing: entries that are not possible add nothing to whatever token stands in for them.
    others = student_log_probs.scatter_add(
        -1, ids, torch.where(is_possible, -torch.inf, student_log_probs.new_zeros(()))
    )
    return torch.cat([listed, _log_sum(others)], dim=-1)


def _log_sum(log_probs: Float[Tensor, "tokens vocab"]) -> Float[Tensor, "tokens 1"]:
    """logsumexp over the last axis, kept; -inf without a gradient where nothing is possible."""
    is_empty = (log_probs == -torch.inf).all(-1, keepdim=True)
    sums = torch.where(is_empty, 0.0, log_probs).logsumexp(-1, keepdim=True)
    return torch.where(is_empty, -torch.inf, sums)


def _over_the_teachers_tokens(
    student_log_probs: Float[Tensor, "tokens student_vocab"], teacher_vocab_size: int | None
) -> Float[Tensor, "tokens vocab"]:
    """The student's distribution given a token that the teacher's head has, too; see `in_shared_vocabulary`."""
    width = student_log_probs.shape[-1]
    num_tokens = width if teacher_vocab_size is None else min(width, teacher_vocab_size)
    return in_shared_vocabulary(student_log_probs, num_tokens=num_tokens).log_probs
