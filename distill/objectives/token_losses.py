"""The token-level terms of every objective, computed from whatever the teacher's cache tells about the tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import log_softmax, widened
from distill.objectives.dadpo import DadpoSettings
from distill.objectives.distillm2 import DistillM2Settings
from distill.objectives.divergences import divergence
from distill.objectives.dpo import DpoSettings
from distill.objectives.gkd import GkdSettings
from distill.objectives.output_head import OutputHead
from distill.objectives.sparse import listed_divergence, listed_entries, sampled_divergence, top_k_divergence
from distill.objectives.temperature import at_scale, softened
from distill.objectives.terms import (
    HiddenStateRows,
    LogitRows,
    SampledRows,
    TeacherRows,
    TopKRows,
    selected_rows,
)
from distill.objectives.tiers import TierName, TokenLossName, tiers_for
from distill.objectives.token_divergence import Answers, KdSettings, counted_tokens
from distill.objectives.uld import top_k_uld, uld
from distill.objectives.vocabulary import in_shared_vocabulary

PairSettings = DpoSettings | DadpoSettings | KdSettings | DistillM2Settings | GkdSettings


@dataclass(frozen=True)
class TokenLoss:
    """One divergence in an objective: which, over whose tokens, from which tier, and how much its mean counts."""

    name: TokenLossName
    parameters: Mapping[str, float] = field(default_factory=dict)
    on: Answers = "both"
    weight: float = 1.0
    temperature: float = 1.0
    tier: TierName | None = None

    @property
    def tiers(self) -> tuple[TierName, ...]:
        """The tiers that it may be computed from, the best first: the recipe's choice, or all that can tell it."""
        if self.tier is not None:
            return (self.tier,)
        return tiers_for(self.name, self.parameters, temperature=self.temperature)


def token_losses(settings: PairSettings) -> tuple[TokenLoss, ...]:
    """The token-level terms of an objective; no token is in two of them."""
    if isinstance(settings, DpoSettings):
        return ()
    if isinstance(settings, DadpoSettings):
        term = settings.token_divergence
        if term is None:
            return ()
        return (TokenLoss(term.name, term.parameters, "both", term.weight, term.temperature, term.tier),)
    softness, tier = settings.temperature, settings.tier
    if isinstance(settings, KdSettings):
        return (TokenLoss(settings.divergence, settings.parameters, settings.on, 1.0, softness, tier),)
    if isinstance(settings, GkdSettings):
        return (TokenLoss("jensen_shannon", {"beta": settings.beta}, "chosen", 1.0, softness, tier),)
    chosen, rejected, weight = settings.chosen_alpha, settings.rejected_alpha, settings.rejected_weight
    both = (
        TokenLoss("skew_kl", {"alpha": chosen}, "chosen", 2.0 - weight, softness, tier),
        TokenLoss("skew_reverse_kl", {"alpha": rejected}, "rejected", weight, softness, tier),
    )
    # Zero times an infinite divergence would be nan.
    return tuple(loss for loss in both if loss.weight > 0.0)


def token_divergences(
    settings: PairSettings,
    student_log_probs: Float[Tensor, "tokens vocab"],
    teacher: TeacherRows,
    *,
    is_chosen: Bool[Tensor, " tokens"],
    head: OutputHead | None = None,
) -> Float[Tensor, " tokens"]:
    """What an objective's token-level terms say of each token, unweighted; 0 where a token is in none of them.

    A token's value depends on that token alone, so the tokens may come in chunks of any size. What stands at tokens
    that do not count, nan too, changes nothing.

    Args:
        settings: the objective.
        student_log_probs: normalised over the student's vocabulary, at temperature 1.
        teacher: what the cache tells about the same tokens.
        is_chosen: whether a token is of the pair's chosen answer.
        head: the teacher's, which `HiddenStateRows` need.

    Raises:
        RecipeError: the divergence cannot be had from such rows.
    """
    return _over_losses(settings, student_log_probs, teacher, is_chosen, partial(token_loss_values, head=head))


def listed_token_divergences(
    settings: PairSettings,
    student_log_probs: Float[Tensor, "tokens events"],
    teacher: TopKRows | SampledRows,
    *,
    is_chosen: Bool[Tensor, " tokens"],
    vocab_size: int,
) -> Float[Tensor, " tokens"]:
    """`token_divergences` from lists, of a student of whom the listed tokens and the rest together are known.

    Args:
        settings: the objective; not for `uld`.
        student_log_probs: of each entry, -inf where it does not count, and last of all other tokens together.
        teacher: what the cache tells about the same tokens.
        is_chosen: whether a token is of the pair's chosen answer.
        vocab_size: the student's, which the teacher's is not below.

    Raises:
        RecipeError: the divergence cannot be had from such rows.
    """

    def values(loss: TokenLoss, student: Tensor, rows: TeacherRows) -> Tensor:
        assert isinstance(rows, TopKRows | SampledRows)
        _require_temperature_one(loss, "top-k" if isinstance(rows, TopKRows) else "sampled")
        is_listed = listed_entries(rows, vocab_size=vocab_size)
        return listed_divergence(loss.name, student, rows, is_listed=is_listed, parameters=loss.parameters)

    return _over_losses(settings, student_log_probs, teacher, is_chosen, values)


def _over_losses(
    settings: PairSettings,
    student_log_probs: Float[Tensor, "tokens events"],
    teacher: TeacherRows,
    is_chosen: Bool[Tensor, " tokens"],
    values_of: Callable[[TokenLoss, Tensor, TeacherRows], Tensor],
) -> Float[Tensor, " tokens"]:
    """Each loss at the tokens that it is on and of which the teacher tells something, 0 at the others."""
    values = widened(student_log_probs).new_zeros(len(student_log_probs))
    for loss in token_losses(settings):
        if loss.on == "both" and teacher.is_told is None:
            return values_of(loss, student_log_probs, teacher)
        index = counted_tokens(is_chosen, teacher.is_told, loss.on).nonzero()[:, 0]
        if len(index) == len(values):
            return values_of(loss, student_log_probs, teacher)
        if len(index) > 0:
            counted = values_of(loss, student_log_probs[index], selected_rows(teacher, index))
            values = values.index_add(0, index, counted)
    return values


def token_loss_values(
    loss: TokenLoss,
    student_log_probs: Float[Tensor, "tokens vocab"],
    teacher: TeacherRows,
    *,
    head: OutputHead | None = None,
) -> Float[Tensor, " tokens"]:
    r"""One token-level term at every token, times T^2: :math:`T^2 D(softmax(z_T / T), softmax(z_S / T))`.

    Heads of one tokenizer that are padded to different widths are compared given the tokens both have; `uld` compares
    whole vocabularies.

    Args:
        loss: the term.
        student_log_probs: normalised over the student's vocabulary, at temperature 1.
        teacher: what the cache tells about the same tokens.
        head: the teacher's, which `HiddenStateRows` need.

    Raises:
        RecipeError: the divergence cannot be had from such rows.
    """
    if isinstance(teacher, TopKRows):
        _require_temperature_one(loss, "top-k")
        if loss.name == "uld":
            return top_k_uld(student_log_probs, teacher)
        return top_k_divergence(loss.name, student_log_probs, teacher, parameters=loss.parameters)
    if isinstance(teacher, SampledRows):
        _require_temperature_one(loss, "sampled")
        return sampled_divergence(loss.name, student_log_probs, teacher, parameters=loss.parameters)
    with torch.no_grad():
        logits = _teacher_logits(teacher, head)
    num_tokens = min(logits.shape[-1], student_log_probs.shape[-1])
    if loss.name != "uld":
        logits = logits[:, :num_tokens]
        student_log_probs = in_shared_vocabulary(student_log_probs, num_tokens=num_tokens).log_probs
    teacher_log_probs = log_softmax(logits if loss.temperature == 1.0 else widened(logits) / loss.temperature)
    student_log_probs = softened(student_log_probs, temperature=loss.temperature)
    if loss.name == "uld":
        values = uld(teacher_log_probs, student_log_probs)
    else:
        values = divergence(loss.name, teacher_log_probs, student_log_probs, **loss.parameters)
    return at_scale(values, temperature=loss.temperature)


def _teacher_logits(teacher: HiddenStateRows | LogitRows, head: OutputHead | None) -> Float[Tensor, "tokens vocab"]:
    if isinstance(teacher, LogitRows):
        return teacher.logits
    assert head is not None, "the trainer gives the teacher's head with its hidden states"
    return head.logits(teacher.hidden_states)


def _require_temperature_one(loss: TokenLoss, tier: TierName) -> None:
    if loss.temperature != 1.0:
        raise RecipeError(
            f"temperature is {loss.temperature:g}, and the teacher is known from tier {tier} alone",
            why="what a temperature makes of tokens that the tier leaves out is not known",
            fix="temperature=1, or a whole tier: distill cache RECIPE cache.codec=[exact]",
        )
