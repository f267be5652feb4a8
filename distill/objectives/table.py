"""Every objective of the trainer by name: its settings, and what it needs from data and cache."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from distill.objectives.dadpo import DadpoSettings, dadpo_loss, dadpo_quantities
from distill.objectives.dpo import DpoSettings, dpo_loss, dpo_quantities, mean_nll
from distill.objectives.terms import PairLoss, PairTerms, TokenTerms
from distill.objectives.token_divergence import KdSettings, pair_token_divergence
from distill.settings import Settings


class SftSettings(Settings):
    """The negative log-likelihood of the assistant's tokens, a mean over tokens."""

    name: Literal["sft"] = "sft"


TermType = TypeVar("TermType")
PairSettings = DpoSettings | DadpoSettings | KdSettings
ObjectiveSettings = Annotated[SftSettings | DpoSettings | DadpoSettings | KdSettings, Field(discriminator="name")]


@dataclass(frozen=True)
class Objective:
    """What training with an objective needs.

    `needs_one_vocabulary`: teacher and student must share their tokenizer, for the cache is joined by token ids.
    """

    settings: type[Settings]
    examples: Literal["conversations", "pairs"]
    needs_reference: bool
    needs_teacher_scores: bool
    needs_distributions: Callable[[ObjectiveSettings], bool]
    needs_one_vocabulary: bool


def _never(settings: ObjectiveSettings) -> bool:
    return False


def _always(settings: ObjectiveSettings) -> bool:
    return True


def _with_token_divergence(settings: ObjectiveSettings) -> bool:
    return isinstance(settings, DadpoSettings) and settings.token_divergence is not None


OBJECTIVES: dict[str, Objective] = {
    "sft": Objective(SftSettings, "conversations", False, False, _never, False),
    "dpo": Objective(DpoSettings, "pairs", True, False, _never, False),
    "dadpo": Objective(DadpoSettings, "pairs", True, True, _with_token_divergence, True),
    "kd": Objective(KdSettings, "pairs", False, False, _always, True),
}


def pair_loss(settings: PairSettings, terms: PairTerms, *, tokens: TokenTerms | None = None) -> PairLoss:
    """The loss of each pair by the objective that `settings` describes, unreduced, and what to log of it.

    Args:
        terms: log-probs of the pairs; an objective with `nll_weight` needs `num_chosen_tokens`.
        tokens: full distributions, for `kd` and for `dadpo` with `token_divergence`.

    Returns:
        The loss, and quantities by name: those of `dpo_quantities` or `dadpo_quantities`, `chosen_nll` where it
        has a weight, `token_divergence` where there is one.
    """
    if isinstance(settings, DpoSettings):
        result = _dpo(settings, terms)
    elif isinstance(settings, DadpoSettings):
        result = _with_tokens(settings, _dadpo(settings, terms), tokens)
    else:
        result = _kd(settings, _given(tokens), num_pairs=len(terms.policy_chosen_log_probs))
    if settings.nll_weight == 0.0:
        return result
    nll = mean_nll(terms.policy_chosen_log_probs, _given(terms.num_chosen_tokens))
    return PairLoss(result.loss + settings.nll_weight * nll, {**result.quantities, "chosen_nll": nll.detach()})


def sft_token_loss(token_log_probs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """The negative log-likelihood of each token, in nats, not averaged."""
    return -token_log_probs


def _dpo(settings: DpoSettings, terms: PairTerms) -> PairLoss:
    arguments = (
        terms.policy_chosen_log_probs,
        terms.policy_rejected_log_probs,
        _given(terms.reference_chosen_log_probs),
        _given(terms.reference_rejected_log_probs),
    )
    loss = dpo_loss(*arguments, beta=settings.beta, label_smoothing=settings.label_smoothing)
    return PairLoss(loss, dpo_quantities(*arguments, beta=settings.beta))


def _dadpo(settings: DadpoSettings, terms: PairTerms) -> PairLoss:
    arguments = (
        terms.policy_chosen_log_probs,
        terms.policy_rejected_log_probs,
        _given(terms.reference_chosen_log_probs),
        _given(terms.reference_rejected_log_probs),
        _given(terms.teacher_chosen_log_probs),
        _given(terms.teacher_rejected_log_probs),
    )
    beta_reference, beta_teacher = settings.beta_reference, settings.beta_teacher
    return PairLoss(
        dadpo_loss(*arguments, beta_reference=beta_reference, beta_teacher=beta_teacher),
        dadpo_quantities(*arguments, beta_reference=beta_reference, beta_teacher=beta_teacher),
    )


def _with_tokens(settings: DadpoSettings, result: PairLoss, tokens: TokenTerms | None) -> PairLoss:
    chosen = settings.token_divergence
    if chosen is None:
        return result
    values = pair_token_divergence(
        _given(tokens), chosen.name, parameters=chosen.parameters, num_pairs=len(result.loss)
    )
    quantities = {**result.quantities, "token_divergence": values.detach()}
    return PairLoss(result.loss + chosen.weight * values, quantities)


def _kd(settings: KdSettings, tokens: TokenTerms, *, num_pairs: int) -> PairLoss:
    values = pair_token_divergence(
        tokens, settings.divergence, parameters=settings.parameters, num_pairs=num_pairs, on=settings.on
    )
    return PairLoss(values, {"token_divergence": values.detach()})


def _given(term: TermType | None) -> TermType:
    assert term is not None, "the trainer gives every term that the objective's row in OBJECTIVES names"
    return term
