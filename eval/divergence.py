"""How far a model's next-token distributions are from its teacher's, and how well it predicts given answers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import (
    SequenceBatch,
    TokenizedConversation,
    TokenizedSequence,
    batches_by_length,
    conversation_row,
    pad_rows,
    sequence_row,
)
from distill.data.packing import Row
from distill.errors import DataError, ModelError
from distill.models import LoadedModel, final_hidden_states, output_head, same_vocabulary
from distill.numerics import log_softmax, segment_sum, token_log_probs
from distill.objectives import divergence
from distill.objectives.output_head import OutputHead
from distill.teacher_cache import TeacherCache, tokenizer_fingerprint


@dataclass(frozen=True)
class MemoryLimits:
    """Padded tokens in a batch, and logits (tokens times vocabulary) in a block of the head's output."""

    max_batch_tokens: int = 8192
    max_logits: int = 2**24

    def chunk_rows(self, *heads: OutputHead) -> int:
        """How many tokens at once keep a block of logits within `max_logits`."""
        return max(1, self.max_logits // max(head.weight.shape[0] for head in heads))


DEFAULT_LIMITS = MemoryLimits()
MAX_BATCH_ROWS = 64


@dataclass(frozen=True)
class TokenMean:
    """A mean over completion tokens, in nats, with its standard error over conversations."""

    mean_nats: float
    standard_error_nats: float | None
    num_tokens: int
    num_conversations: int

    @property
    def perplexity(self) -> float:
        """e to the mean: the perplexity, where the mean is one of negative log-probabilities."""
        return math.exp(self.mean_nats)


def kl_to_teacher(
    student: LoadedModel,
    teacher: LoadedModel | TeacherCache,
    examples: Sequence[TokenizedConversation | TokenizedSequence],
    *,
    limits: MemoryLimits = DEFAULT_LIMITS,
) -> TokenMean:
    r"""Mean of KL(teacher || student) over the completion tokens of `examples`.

    .. math:: \frac{1}{N} \sum_t \sum_v p_T(v \mid t) \, (\log p_T(v \mid t) - \log p_S(v \mid t))

    Heads padded to different sizes are cut to the smaller one, which holds the whole vocabulary, before the softmax.

    Args:
        student: the model to measure, quantized or not.
        teacher: a model, or a cache that holds every example and has a tier of whole distributions.
        examples: held-out conversations answered by the teacher; sequences where the teacher is a cache.
        limits: how much is held at once; the figure does not depend on it.

    Raises:
        ModelError: teacher and student do not share one vocabulary.
        CacheError: the cache lacks an example or holds no full distributions.
        DataError: there is no example, or a conversation is to be looked up in a cache.
    """
    if isinstance(teacher, TeacherCache):
        return _kl_to_cache(student, teacher, examples, limits=limits)
    teacher_head, student_head = output_head(teacher.model), output_head(student.model)
    reason = same_vocabulary(teacher.tokenizer, student.tokenizer)
    if reason is not None and not _differ_in_dead_tokens_only((teacher, teacher_head), (student, student_head)):
        raise ModelError(
            f"KL of {student.source} to {teacher.source} is not defined",
            why=reason,
            fix="give the student the teacher's tokenizer, or leave this measurement out",
        )
    sums = _Sums(len(examples))
    for indices, batch in _batches(examples, pad_id=_pad_id(student), limits=limits):
        teacher_hidden = _completion_hidden_states(teacher, batch)
        student_hidden = _completion_hidden_states(student, batch)
        values = _kl_of_hidden_states(
            teacher_hidden, student_hidden, teacher_head=teacher_head, student_head=student_head, limits=limits
        )
        sums.add(indices, batch, values)
    return sums.mean()


def reference_perplexity(
    loaded: LoadedModel,
    examples: Sequence[TokenizedConversation | TokenizedSequence],
    *,
    limits: MemoryLimits = DEFAULT_LIMITS,
) -> TokenMean:
    """Mean negative log-probability of the completion tokens; its `perplexity` is e to it.

    Raises:
        DataError: there is no example.
    """
    head = output_head(loaded.model)
    sums = _Sums(len(examples))
    for indices, batch in _batches(examples, pad_id=_pad_id(loaded), limits=limits):
        hidden_states = _completion_hidden_states(loaded, batch)
        targets = batch.target_ids[batch.completion_mask].to(hidden_states.device)
        size = limits.chunk_rows(head)
        chunks = zip(torch.split(hidden_states, size), torch.split(targets, size), strict=True)
        with torch.inference_mode():
            values = torch.cat([-token_log_probs(head.logits(hidden), target) for hidden, target in chunks])
        sums.add(indices, batch, values)
    return sums.mean()


def mean_over_tokens(totals: Sequence[float], counts: Sequence[int]) -> TokenMean:
    r"""Ratio of sums with its standard error over conversations, by the delta method.

    .. math:: \bar x = \frac{\sum_i X_i}{\sum_i n_i}, \qquad
        se = \frac{1}{\sum_i n_i} \sqrt{\frac{m}{m - 1} \sum_i (X_i - \bar x n_i)^2}

    Args:
        totals: X_i, the sum of the values of conversation i.
        counts: n_i, its number of tokens.

    Returns:
        The mean; the standard error is None for fewer than two conversations.

    Source:
        Cochran, Sampling Techniques, 3rd ed., eq. 6.13 (ratio estimator), without finite-population correction.
    """
    num_conversations, num_tokens = len(totals), sum(counts)
    if not num_tokens:
        raise DataError("no completion token to average over", fix="give at least one answered conversation")
    mean = math.fsum(totals) / num_tokens
    if num_conversations < 2 or not math.isfinite(mean):
        return TokenMean(mean, None, num_tokens, num_conversations)
    squares = math.fsum((total - mean * count) ** 2 for total, count in zip(totals, counts, strict=True))
    error = math.sqrt(squares * num_conversations / (num_conversations - 1)) / num_tokens
    return TokenMean(mean, error, num_tokens, num_conversations)


class _Sums:
    """Sums and counts of completion tokens by conversation."""

    def __init__(self, num_conversations: int) -> None:
        self.totals, self.counts = [0.0] * num_conversations, [0] * num_conversations

    def add(self, indices: Sequence[int], batch: SequenceBatch, values: Float[Tensor, " tokens"]) -> None:
        """Adds one value for each completion token of the batch, row by row."""
        rows = batch.completion_mask.nonzero()[:, 0]
        totals = segment_sum(values.double().cpu(), rows.cpu(), len(indices)).tolist()
        counts = batch.completion_mask.sum(-1).tolist()
        for index, total, count in zip(indices, totals, counts, strict=True):
            self.totals[index], self.counts[index] = total, count

    def mean(self) -> TokenMean:
        """The mean over all tokens."""
        return mean_over_tokens(self.totals, self.counts)


def _differ_in_dead_tokens_only(first: tuple[LoadedModel, OutputHead], second: tuple[LoadedModel, OutputHead]) -> bool:
    """Whether tokenizers of different sizes agree on every token that the models' heads can predict.

    transformers' GGUF reader adds an `<|endoftext|>` beyond the last row of the head.
    """
    sizes = {len(loaded.tokenizer) for loaded, _ in (first, second)}
    alive, others = (
        {token: index for token, index in loaded.tokenizer.get_vocab().items() if index < head.weight.shape[0]}
        for loaded, head in (first, second)
    )
    return len(sizes) > 1 and alive == others


def _kl_to_cache(
    student: LoadedModel,
    cache: TeacherCache,
    examples: Sequence[TokenizedConversation | TokenizedSequence],
    *,
    limits: MemoryLimits,
) -> TokenMean:
    sequences = [row for row in examples if isinstance(row, TokenizedSequence)]
    if len(sequences) != len(examples):
        raise DataError(
            "a cache holds sequences, not whole conversations",
            why="it is addressed by a prompt with one completion",
            fix="pass the sequences the cache was made from, or a teacher model",
        )
    cache.require(tokenizer_fingerprint=tokenizer_fingerprint(student.tokenizer))
    cache.require_sequences([sequence.sequence_id for sequence in sequences])
    head = output_head(student.model)
    sums = _Sums(len(sequences))
    for indices, batch in _batches(sequences, pad_id=_pad_id(student), limits=limits):
        hidden_states, values, position = _completion_hidden_states(student, batch), list[Tensor](), 0
        for log_probs in cache.log_probs_in_blocks(batch.row_ids, max_log_probs=limits.max_logits):
            own = hidden_states[position : position + len(log_probs)]
            values.append(_kl_of_logits(log_probs.to(own.device), own, student_head=head))
            position += len(log_probs)
        sums.add(indices, batch, torch.cat(values))
    return sums.mean()


@torch.inference_mode()
def _kl_of_hidden_states(
    teacher_hidden: Float[Tensor, "tokens teacher_hidden"],
    student_hidden: Float[Tensor, "tokens student_hidden"],
    *,
    teacher_head: OutputHead,
    student_head: OutputHead,
    limits: MemoryLimits,
) -> Float[Tensor, " tokens"]:
    size = limits.chunk_rows(teacher_head, student_head)
    chunks = zip(torch.split(teacher_hidden, size), torch.split(student_hidden, size), strict=True)
    values = [
        _kl_of_logits(teacher_head.logits(teacher).to(student.device), student, student_head=student_head)
        for teacher, student in chunks
    ]
    return torch.cat(values)


@torch.inference_mode()
def _kl_of_logits(
    teacher_logits: Float[Tensor, "tokens teacher_vocab"],
    student_hidden: Float[Tensor, "tokens hidden"],
    *,
    student_head: OutputHead,
) -> Float[Tensor, " tokens"]:
    """KL at each token; log-probabilities serve as logits, since the softmax leaves normalised ones as they are."""
    student_logits = student_head.logits(student_hidden)
    vocab = min(teacher_logits.shape[-1], student_logits.shape[-1])
    return divergence("forward_kl", log_softmax(teacher_logits[..., :vocab]), log_softmax(student_logits[..., :vocab]))


@torch.inference_mode()
def _completion_hidden_states(loaded: LoadedModel, batch: SequenceBatch) -> Float[Tensor, "tokens hidden"]:
    """Final-norm states of the positions whose target is a completion token, row by row."""
    loaded.model.eval()
    moved = batch.to(loaded.model.device)
    hidden_states = final_hidden_states(
        loaded.model,
        input_ids=moved.input_ids,
        attention_mask=moved.attention_mask,
        position_ids=moved.position_ids,
    )
    return hidden_states[moved.completion_mask.to(hidden_states.device)]


def _batches(
    examples: Sequence[TokenizedConversation | TokenizedSequence], *, pad_id: int, limits: MemoryLimits
) -> Iterator[tuple[list[int], SequenceBatch]]:
    if not examples:
        raise DataError("no conversation to measure on", fix="give at least one answered conversation")
    rows: list[Row] = [
        conversation_row(row) if isinstance(row, TokenizedConversation) else sequence_row(row) for row in examples
    ]
    lengths = [len(ids) for ids, _, _ in rows]
    for indices in batches_by_length(lengths, max_tokens=limits.max_batch_tokens, max_rows=MAX_BATCH_ROWS):
        yield indices, pad_rows([rows[index] for index in indices], pad_id=pad_id)


def _pad_id(loaded: LoadedModel) -> int:
    pad_id = loaded.tokenizer.pad_token_id
    return pad_id if isinstance(pad_id, int) else 0
