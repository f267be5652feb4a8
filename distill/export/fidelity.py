"""How far a quantized model's next-token distributions are from the merged model's, on held-out chats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import (
    Conversation,
    SequenceBatch,
    TokenizedConversation,
    batches_by_length,
    conversation_row,
    pad_rows,
    tokenize_conversation,
)
from distill.errors import ExportError, ModelError
from distill.export.clustered_error import clustered_standard_error
from distill.models import LoadedModel, StudentModule
from distill.numerics import log_softmax
from distill.objectives import divergence

MAX_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Fidelity:
    """KL(merged || artefact) per assistant token, in nats, and what goes with it.

    Standard errors treat chats, not tokens, as independent; None where there is a single chat.
    `log_perplexity_ratio` is the natural logarithm of `perplexity_ratio`, the mean difference of two losses on the
    same tokens, and its standard error is that of the paired differences. `mean_delta_p` and `rms_delta_p` are mean
    and root mean square of the artefact's probability of the token that follows minus the merged model's.
    """

    num_conversations: int
    num_tokens: int
    kl_nats: float
    kl_standard_error_nats: float | None
    median_kl_nats: float
    p99_kl_nats: float
    max_kl_nats: float
    same_top_token: float
    merged_perplexity: float
    perplexity: float
    perplexity_ratio: float
    log_perplexity_ratio: float
    log_perplexity_ratio_standard_error: float | None
    mean_delta_p: float
    rms_delta_p: float


def tokenize_chats(merged: LoadedModel, conversations: Sequence[Conversation]) -> list[TokenizedConversation]:
    """The chats that have an answer to predict, cut at the model's length."""
    longest = int(getattr(merged.model.config, "max_position_embeddings", MAX_BATCH_TOKENS))
    rows = (tokenize_conversation(merged.tokenizer, chat, max_length_tokens=longest) for chat in conversations)
    return [row for row in rows if row is not None]


def measure_fidelity(merged: LoadedModel, artefact: LoadedModel, *, chats: Sequence[TokenizedConversation]) -> Fidelity:
    """Compares two models of one vocabulary on the assistant's tokens of `chats`, of which there is at least one.

    Both see the merged model's token ids; whether the artefact's runtime makes the same ids is the smoke test's matter.

    Raises:
        ExportError: the artefact's logits are not finite.
    """
    students = StudentModule(merged.model).eval(), _student(artefact)
    pad_id = int(merged.tokenizer.pad_token_id)
    lengths = [len(chat.input_ids) for chat in chats]
    figures: list[Float[Tensor, "figure tokens"]] = []
    owners: list[Tensor] = []
    for rows in batches_by_length(lengths, max_tokens=MAX_BATCH_TOKENS, max_rows=len(chats)):
        batch = pad_rows([conversation_row(chats[row]) for row in rows], pad_id=pad_id)
        figures.append(_token_figures(*students, batch))
        owners.append(torch.tensor(rows).repeat_interleave(batch.completion_mask.sum(-1)))
    return _summary(torch.cat(figures, dim=1), torch.cat(owners), num_conversations=len(chats))


def _student(artefact: LoadedModel) -> StudentModule:
    try:
        return StudentModule(artefact.model).eval()
    except ModelError as error:
        raise ExportError(f"the artefact gives no logits: {error.what}", why="the merged model did") from error


@torch.inference_mode()
def _token_figures(
    merged: StudentModule, artefact: StudentModule, batch: SequenceBatch
) -> Float[Tensor, "figure tokens"]:
    """KL, whether the likeliest token is the same, and both models' log-probabilities of the target."""
    merged_log_probs, artefact_log_probs = (_log_probs(model, batch) for model in (merged, artefact))
    targets = batch.target_ids[batch.completion_mask].unsqueeze(-1)
    return torch.stack(
        [
            divergence("forward_kl", merged_log_probs, artefact_log_probs),
            (merged_log_probs.argmax(-1) == artefact_log_probs.argmax(-1)).to(merged_log_probs.dtype),
            merged_log_probs.gather(-1, targets).squeeze(-1),
            artefact_log_probs.gather(-1, targets).squeeze(-1),
        ]
    )


def _log_probs(model: StudentModule, batch: SequenceBatch) -> Float[Tensor, "tokens vocab"]:
    batch = batch.to(model.model.device)
    logits = model(batch.input_ids, batch.attention_mask, batch.position_ids, batch.completion_mask)
    return log_softmax(logits).cpu()


def _summary(figures: Float[Tensor, "figure tokens"], owners: Tensor, *, num_conversations: int) -> Fidelity:
    kl, same_top, merged_targets, targets = figures.double()
    num_tokens = kl.numel()
    if not bool(torch.isfinite(kl).all()):
        raise ExportError(
            f"the KL divergence to the merged model is not finite on {int((~torch.isfinite(kl)).sum())} tokens",
            why="the artefact's weights are damaged or overflow",
            fix="choose another format",
        )
    delta_p = targets.exp() - merged_targets.exp()
    merged_loss, loss = -float(merged_targets.mean()), -float(targets.mean())
    return Fidelity(
        num_conversations=num_conversations,
        num_tokens=num_tokens,
        kl_nats=float(kl.mean()),
        kl_standard_error_nats=clustered_standard_error(kl, owners, num_clusters=num_conversations),
        median_kl_nats=float(kl.median()),
        p99_kl_nats=float(kl.kthvalue(math.ceil(0.99 * num_tokens)).values),
        max_kl_nats=float(kl.max()),
        same_top_token=float(same_top.mean()),
        merged_perplexity=math.exp(merged_loss),
        perplexity=math.exp(loss),
        perplexity_ratio=math.exp(loss - merged_loss),
        log_perplexity_ratio=loss - merged_loss,
        log_perplexity_ratio_standard_error=clustered_standard_error(
            merged_targets - targets, owners, num_clusters=num_conversations
        ),
        mean_delta_p=float(delta_p.mean()),
        rms_delta_p=float(delta_p.square().mean().sqrt()),
    )
