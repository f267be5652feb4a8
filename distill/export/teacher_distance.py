"""How far the student is from its teacher, before it was quantized and after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.data import TokenizedConversation, conversation_row, pad_rows
from distill.data.sequences import sequence_id
from distill.errors import ExportError, RecipeError
from distill.export.clustered_error import clustered_standard_error
from distill.models import LoadedModel, StudentModule, load_model, same_vocabulary
from distill.numerics import log_softmax
from distill.objectives import divergence
from distill.teacher_cache import DISTRIBUTION_CODECS, TeacherCache, tokenizer_fingerprint

_CACHE_FILE, _MODEL_FILES = "manifest.json", ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class TeacherDistance:
    """KL(teacher || student) per assistant token, in nats: of the merged model, and of the artefact.

    `num_tokens` are those that the teacher has distributions of. `increase_standard_error_nats` is that of the paired
    difference of the two, chats taken as independent; None where the teacher knows a single one.
    """

    num_tokens: int
    merged_kl_nats: float
    kl_nats: float
    increase_standard_error_nats: float | None


class Teacher(Protocol):
    """Whatever has the teacher's distributions of a chat."""

    def distributions(
        self, chat: TokenizedConversation
    ) -> tuple[Float[Tensor, "kept vocab"], Bool[Tensor, " tokens"]] | None:
        """Log-probabilities, and of which of the chat's assistant tokens they are; None where there are none."""


class LiveTeacher:
    """A teacher that runs here; it knows every chat."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._student = StudentModule(loaded.model).eval()

    def distributions(
        self, chat: TokenizedConversation
    ) -> tuple[Float[Tensor, "kept vocab"], Bool[Tensor, " tokens"]] | None:
        """All of the chat's assistant tokens."""
        log_probs = chat_log_probs(self._student, chat)
        return log_probs, torch.ones(len(log_probs), dtype=torch.bool)


class CachedTeacher:
    """A teacher on disk; it knows the answers that were scored after the very same prompts."""

    def __init__(self, cache: TeacherCache) -> None:
        self._cache = cache

    def distributions(
        self, chat: TokenizedConversation
    ) -> tuple[Float[Tensor, "kept vocab"], Bool[Tensor, " tokens"]] | None:
        """The assistant tokens of those answers that are in the cache."""
        found, kept = [], []
        for prompt_ids, completion_ids in answers_of(chat):
            name = sequence_id(prompt_ids, completion_ids)
            is_known = name in self._cache
            kept.append(torch.full((len(completion_ids),), is_known))
            if is_known:
                found.append(self._cache.log_probs([name]))
        return (torch.cat(found), torch.cat(kept)) if found else None


def open_teacher(place: str, merged: LoadedModel) -> Teacher:
    """The teacher in a cache folder, or else in a model folder or on the hub.

    Raises:
        CacheError: the cache cannot be opened, was made with another tokenizer, or has no whole distributions.
        ModelError: the model cannot be loaded.
        RecipeError: its tokens are not the student's.
    """
    folder = Path(place)
    if (folder / _CACHE_FILE).exists() and not any((folder / name).exists() for name in _MODEL_FILES):
        cache = TeacherCache.open(folder)
        cache.require(tokenizer_fingerprint=tokenizer_fingerprint(merged.tokenizer))
        cache.require_tier(*DISTRIBUTION_CODECS, by="KL to the teacher (export.teacher)")
        return CachedTeacher(cache)
    loaded = load_model(place)
    reason = same_vocabulary(merged.tokenizer, loaded.tokenizer)
    if reason is not None:
        raise RecipeError(
            f"export.teacher is {place}, whose tokens are not the student's",
            why=reason,
            fix="name the teacher that the student learnt from, or leave export.teacher out",
        )
    return LiveTeacher(loaded)


def measure_teacher_distance(
    teacher: Teacher, merged: LoadedModel, artefact: LoadedModel, *, chats: Sequence[TokenizedConversation]
) -> TeacherDistance | None:
    """Compares both with the teacher, a chat at a time, on the ids that all three models have.

    Returns:
        None where the teacher has distributions of none of the chats.

    Raises:
        ExportError: the divergence is not finite.
    """
    students = StudentModule(merged.model).eval(), StudentModule(artefact.model).eval()
    rows = []
    for chat in chats:
        found = teacher.distributions(chat)
        if found is None:
            continue
        teacher_log_probs, kept = found
        both = [chat_log_probs(student, chat)[kept] for student in students]
        width = min(log_probs.shape[-1] for log_probs in (teacher_log_probs, *both))
        reference = log_softmax(teacher_log_probs[:, :width])
        rows.append(
            torch.stack([divergence("forward_kl", reference, log_softmax(student[:, :width])) for student in both])
        )
    if not rows:
        return None
    kls = torch.cat(rows, dim=1).double()
    if not bool(torch.isfinite(kls).all()):
        raise ExportError("the KL divergence to the teacher is not finite", why="the teacher or a student is damaged")
    before, after = kls.mean(-1).tolist()
    lengths = torch.tensor([row.shape[1] for row in rows])
    owners = torch.arange(len(rows)).repeat_interleave(lengths)
    error = clustered_standard_error(kls[1] - kls[0], owners, num_clusters=len(rows))
    return TeacherDistance(kls.shape[1], before, after, error)


def answers_of(chat: TokenizedConversation) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each run of assistant tokens, after all that stands before it."""
    start = 0
    for position, is_completion in enumerate((*chat.completion_mask, False)):
        before = position > 0 and chat.completion_mask[position - 1]
        if is_completion and not before:
            start = position
        if before and not is_completion:
            yield chat.input_ids[:start], chat.input_ids[start:position]


@torch.inference_mode()
def chat_log_probs(student: StudentModule, chat: TokenizedConversation) -> Float[Tensor, "tokens vocab"]:
    """A model's log-probabilities where a chat's assistant tokens are predicted."""
    batch = pad_rows([conversation_row(chat)], pad_id=0).to(student.model.device)
    logits = student(batch.input_ids, batch.attention_mask, batch.position_ids, batch.completion_mask)
    return log_softmax(logits).cpu()
