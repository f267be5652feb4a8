"""From what the models say about pairs to one loss per pair, by whichever objective the recipe chose."""

from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from distill.objectives.dadpo import DadpoSettings, dadpo_loss, dadpo_quantities, length_normalised
from distill.objectives.distillm2 import DistillM2Settings
from distill.objectives.dpo import DpoSettings, dpo_loss, dpo_quantities, mean_nll
from distill.objectives.gkd import GkdSettings
from distill.objectives.terms import LogitRows, PairLoss, PairTerms, TokenTerms, TokenValues
from distill.objectives.token_divergence import pair_means
from distill.objectives.token_losses import PairSettings, token_divergences, token_losses

TermType = TypeVar("TermType")


def pair_loss(settings: PairSettings, terms: PairTerms, *, tokens: TokenTerms | TokenValues | None = None) -> PairLoss:
    """The loss of each pair by the objective that `settings` describes, unreduced, and what to log of it.

    Args:
        settings: the objective.
        terms: log-probs of the pairs; an objective with `nll_weight` needs `num_chosen_tokens`, one with
            `length_normalised` both counts.
        tokens: for objectives with token-level terms: what `token_divergences` said of each token, or whole
            distributions, of which it is asked here.

    Returns:
        The loss, and quantities by name: those of `dpo_quantities` or `dadpo_quantities`, `chosen_nll` where it
        has a weight, `token_divergence` where there is one, of `distillm2` also `chosen_divergence` and
        `rejected_divergence`.
    """
    result = _preference(settings, terms)
    if token_losses(settings):
        assert tokens is not None, "the trainer gives token-level values to objectives that have such terms"
        result = _with_tokens(settings, result, _values(settings, tokens), len(terms.policy_chosen_log_probs))
    assert result is not None, "an objective has a preference term or a token-level one"
    nll_weight = 0.0 if isinstance(settings, DistillM2Settings | GkdSettings) else settings.nll_weight
    if nll_weight == 0.0:
        return result
    nll = mean_nll(terms.policy_chosen_log_probs, _given(terms.num_chosen_tokens))
    return PairLoss(result.loss + nll_weight * nll, {**result.quantities, "chosen_nll": nll.detach()})


def sft_token_loss(token_log_probs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """The negative log-likelihood of each token, in nats, not averaged."""
    return -token_log_probs


def _preference(settings: PairSettings, terms: PairTerms) -> PairLoss | None:
    if isinstance(settings, DpoSettings):
        return _dpo(settings, terms)
    return _dadpo(settings, terms) if isinstance(settings, DadpoSettings) else None


def _dpo(settings: DpoSettings, terms: PairTerms) -> PairLoss:
    arguments = (
        terms.policy_chosen_log_probs,
        terms.policy_rejected_log_probs,
        _given(terms.reference_chosen_log_probs),
        _given(terms.reference_rejected_log_probs),
    )
    beta, divergence = settings.beta, settings.divergence
    alpha = 0.5 if settings.alpha is None else settings.alpha
    smoothing = settings.label_smoothing
    return PairLoss(
        dpo_loss(*arguments, beta=beta, label_smoothing=smoothing, divergence=divergence, alpha=alpha),
        dpo_quantities(*arguments, beta=beta, divergence=divergence, alpha=alpha),
    )


def _dadpo(settings: DadpoSettings, terms: PairTerms) -> PairLoss:
    policy = (terms.policy_chosen_log_probs, terms.policy_rejected_log_probs)
    reference = (_given(terms.reference_chosen_log_probs), _given(terms.reference_rejected_log_probs))
    teacher = (_given(terms.teacher_chosen_log_probs), _given(terms.teacher_rejected_log_probs))
    if settings.length_normalised:
        counts = (_given(terms.num_chosen_tokens), _given(terms.num_rejected_tokens))
        policy, reference = _per_token(policy, counts), _per_token(reference, counts)
        own = (terms.num_teacher_chosen_tokens, terms.num_teacher_rejected_tokens)
        teacher = _per_token(teacher, counts if own[0] is None else (own[0], _given(own[1])))
    beta_reference, beta_teacher, clip = settings.beta_reference, settings.beta_teacher, settings.clip
    scores = (*policy, *reference, *teacher)
    return PairLoss(
        dadpo_loss(*scores, beta_reference=beta_reference, beta_teacher=beta_teacher, clip=clip),
        dadpo_quantities(*scores, beta_reference=beta_reference, beta_teacher=beta_teacher, clip=clip),
    )


def _per_token(log_probs: tuple[Tensor, Tensor], counts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return length_normalised(log_probs[0], counts[0]), length_normalised(log_probs[1], counts[1])


def _values(settings: PairSettings, tokens: TokenTerms | TokenValues) -> TokenValues:
    if isinstance(tokens, TokenValues):
        return tokens
    teacher = LogitRows(tokens.teacher_log_probs)
    values = token_divergences(settings, tokens.student_log_probs, teacher, is_chosen=tokens.is_chosen)
    return TokenValues(values, tokens.pair_index, tokens.is_chosen)


def _with_tokens(settings: PairSettings, result: PairLoss | None, tokens: TokenValues, num_pairs: int) -> PairLoss:
    """The preference loss, where there is one, plus each term's weight times its mean; the means are logged."""
    means = {loss.on: pair_means(tokens, num_pairs=num_pairs, on=loss.on) for loss in token_losses(settings)}
    weighted = [loss.weight * means[loss.on] for loss in token_losses(settings)]
    total = weighted[0] if len(weighted) == 1 else weighted[0] + weighted[1]
    quantities = {} if result is None else dict(result.quantities)
    if isinstance(settings, DistillM2Settings):
        quantities |= {f"{on}_divergence": mean.detach() for on, mean in means.items()}
        quantities["token_divergence"] = total.detach()
    else:
        quantities["token_divergence"] = next(iter(means.values())).detach()
    return PairLoss(total if result is None else result.loss + total, quantities)


def _given(term: TermType | None) -> TermType:
    assert term is not None, "the trainer gives every term that the objective's row in OBJECTIVES names"
    return term
