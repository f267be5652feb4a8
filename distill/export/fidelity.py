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
from distill.models import LoadedModel, StudentModule
from distill.numerics import log_softmax
from distill.objectives import divergence

MAX_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Fidelity:
    """KL(merged || artefact) per assistant token, in nats, and what goes with it.

    `kl_standard_error_nats` treats chats, not tokens, as independent; None where there is a single chat.
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
    merged_loss, loss = -float(merged_targets.mean()), -float(targets.mean())
    return Fidelity(
        num_conversations=num_conversations,
        num_tokens=num_tokens,
        kl_nats=float(kl.mean()),
        kl_standard_error_nats=_clustered_standard_error(kl, owners, num_clusters=num_conversations),
        median_kl_nats=float(kl.median()),
        p99_kl_nats=float(kl.kthvalue(math.ceil(0.99 * num_tokens)).values),
        max_kl_nats=float(kl.max()),
        same_top_token=float(same_top.mean()),
        merged_perplexity=math.exp(merged_loss),
        perplexity=math.exp(loss),
        perplexity_ratio=math.exp(loss - merged_loss),
    )


def _clustered_standard_error(values: Float[Tensor, " tokens"], owners: Tensor, *, num_clusters: int) -> float | None:
    r"""Standard error of a ratio of sums over clusters.

    .. math:: \sqrt{\frac{C}{C - 1} \sum_c \Big(\sum_{t \in c} (x_t - \bar x)\Big)^2} \Big/ N
    """
    if num_clusters < 2:
        return None
    residuals = torch.zeros(num_clusters, dtype=values.dtype).index_add(0, owners, values - values.mean())
    variance = num_clusters / (num_clusters - 1) * float(residuals.square().sum())
    return math.sqrt(variance) / values.numel()
