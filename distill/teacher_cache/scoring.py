"""One batch of sequences through the teacher: tokens in, encoded rows of every tier out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import template_hash
from distill.data.prompt_packs import pack_groups
from distill.errors import CacheError
from distill.models import LoadedModel, output_head
from distill.models.adapters import LanguageModel
from distill.models.packed import MaskForm, mask_form, packed_hidden_states
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import Codec, EncodedRows, HeadShape, encode_tiers
from distill.teacher_cache.head_file import float_head
from distill.teacher_cache.plan import PlannedBatch, PlannedGroup
from distill.teacher_cache.vocabulary import tokenizer_fingerprint


@dataclass(frozen=True)
class TeacherIdentity:
    """Whose scores a cache holds; equal identities may work on one cache together."""

    fingerprint: str
    tokenizer_fingerprint: str
    template_hash: str
    shape: HeadShape


class Scorer(Protocol):
    """Whoever turns a planned batch into rows: a model in this process, or a server."""

    @property
    def identity(self) -> TeacherIdentity:
        """Whose scores these are."""

    @property
    def head(self) -> OutputHead | None:
        """The output head that tiers of hidden states are decoded with; None where there is none to store."""

    def shares_prompts(self, *, longest: int) -> bool:
        """Whether the prompt of a group is read once for all its completions; a group is cut into sequences else.

        Args:
            longest: tokens of the longest sequence to come.
        """

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        """The rows of each codec for all completion tokens of the batch, in the order of `batch.sequences`.

        Raises:
            CacheError: a number is not finite, or the scorer cannot fill one of the tiers.
        """


class LocalScorer:
    """A model in this process; the prompt of a group is read once where the model takes packed rows."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._head = output_head(loaded.model)
        self._form: MaskForm | None = None
        self._probed = -1

    @cached_property
    def identity(self) -> TeacherIdentity:
        """Fingerprints of the model, its tokenizer and its template, and the size of its head."""
        vocab_size, hidden_size = self._head.weight.shape
        tokenizer = self._loaded.tokenizer
        return TeacherIdentity(
            self._loaded.fingerprint,
            tokenizer_fingerprint(tokenizer),
            template_hash(tokenizer),
            HeadShape(vocab_size, hidden_size),
        )

    @property
    def head(self) -> OutputHead:
        """The model's own, in its own dtype."""
        return self._head

    def shares_prompts(self, *, longest: int) -> bool:
        """Whether the model takes packed rows, found out by trying on a few tokens."""
        if longest > self._probed:
            with evaluating(self._loaded.model):
                self._form = mask_form(self._loaded.model, longest=longest)
            self._probed = longest
        return self._form is not None

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        """One forward pass, then every codec on its hidden states.

        Raises:
            CacheError: a hidden state is not finite; names the sequence.
        """
        shares_prompts = self.shares_prompts(longest=max(planned.length for planned in batch.sequences))
        groups = batch.groups if shares_prompts else [PlannedGroup((planned,)) for planned in batch.sequences]
        pad_id = self._loaded.tokenizer.pad_token_id
        packed = pack_groups(
            [group.prompt_group for group in groups],
            pad_id=0 if pad_id is None else int(pad_id),
            pack_tokens=batch.row_tokens if shares_prompts else None,
        )
        with evaluating(self._loaded.model):
            states = packed_hidden_states(self._loaded.model, packed, form=self._form)
        states = states.to(self._head.weight.device)
        _refuse_not_finite(states, batch)
        return encode_tiers(
            codecs,
            states,
            packed.target_ids.to(states.device),
            head=self._wide_head if any(codec.needs_logits for codec in codecs) else self._head,
            sequence_ids=[planned.id for planned in batch.sequences],
            lengths=packed.lengths,
        )

    @cached_property
    def _wide_head(self) -> OutputHead:
        return float_head(self._head)


def scorer_of(teacher: LoadedModel | Scorer) -> Scorer:
    """A loaded model as a scorer; a scorer as it is."""
    return LocalScorer(teacher) if isinstance(teacher, LoadedModel) else teacher


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """The model without dropout for the length of a `with` block."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def _refuse_not_finite(states: Float[Tensor, "tokens hidden"], batch: PlannedBatch) -> None:
    if bool(torch.isfinite(states).all()):
        return
    token = int((~torch.isfinite(states).all(-1)).nonzero()[0])
    for planned in batch.sequences:
        if token < planned.num_tokens:
            break
        token -= planned.num_tokens
    raise CacheError(
        f"the teacher's final hidden state for completion token {token} of sequence {planned.id[:12]} is not finite",
        why="one such number makes every loss that meets it not finite",
        fix="load the teacher with teacher.dtype=float32 and check that its weights are finite",
    )
