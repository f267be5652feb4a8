"""A teacher in this process, for answers that no cache can hold because the student has only just drawn them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distill.data import TokenizedPair, TokenizedSequence
from distill.data.prompt_packs import PromptGroup, pack_groups
from distill.errors import RecipeError
from distill.models import LoadedModel, output_head, same_vocabulary
from distill.models.packed import packed_hidden_states
from distill.models.world import World
from distill.objectives import HiddenStateRows, OutputHead, TeacherRows
from distill.training.cached_scores import CachedScores
from distill.training.feed import Examples
from distill.training.passes import Budget, padded_passes


class LiveTeacher:
    """Reads answers and tells its final hidden states, from which its head makes distributions.

    Args:
        loaded: put into evaluation mode; every rank has its own, whole.
        max_tokens: padded positions of one forward pass.
        world: whose device it moves to where several ranks each loaded one.
    """

    def __init__(self, loaded: LoadedModel, *, max_tokens: int, world: World) -> None:
        self._loaded, self._max_tokens = loaded, max_tokens
        self._model = loaded.model.eval()
        if world.world_size > 1 and self._model.device != world.device:
            self._model.to(world.device)
        self.head: OutputHead = output_head(self._model)

    def num_shared_token_ids(self, student: LoadedModel) -> int:
        """Ids below this one are tokens of both; heads may be padded beyond.

        Raises:
            RecipeError: the tokenizers differ.
        """
        require_one_vocabulary(self._loaded, student)
        known = 1 + max(int(token_id) for token_id in student.tokenizer.get_vocab().values())
        return min(known, len(self.head.weight), len(output_head(student.model).weight))

    def rows(self, sequences: Sequence[TokenizedSequence]) -> HiddenStateRows:
        """What the teacher says at the completion tokens of these sequences, end to end; carries no gradient."""
        sizes = [len(sequence.prompt_ids) + len(sequence.completion_ids) - 1 for sequence in sequences]
        states: dict[int, Tensor] = {}
        for part in padded_passes(sizes, range(len(sequences)), budget=Budget(self._max_tokens), world_size=1):
            groups = [PromptGroup(sequences[i].prompt_ids, (sequences[i].completion_ids,)) for i in part]
            # One sequence a row, so that every family reads them with its own causal mask.
            found = packed_hidden_states(self._model, pack_groups(groups, pad_id=0), form=None)
            states |= zip(part, torch.split(found, [group.num_tokens for group in groups]), strict=True)
        return HiddenStateRows(torch.cat([states[number] for number in range(len(sequences))]))


@dataclass(frozen=True)
class LiveScores(CachedScores):
    """The same of pairs whose distributions are in no cache: the teacher reads them whenever it is asked."""

    live: LiveTeacher | None = None
    sequences: Mapping[str, TokenizedSequence] = field(default_factory=dict)

    def rows(self, sequence_ids: Sequence[str]) -> TeacherRows | None:
        """What the teacher says at the completion tokens of these sequences, end to end."""
        assert self.live is not None
        return self.live.rows([self.sequences[i] for i in sequence_ids])


def held_out_scores(scores: CachedScores, examples: Examples, *, live: LiveTeacher | None) -> CachedScores:
    """What the held-out loss on the pairs' own answers is made from: the cache where it is read, else the teacher."""
    if live is None or scores.distributions is not None:
        return scores
    pairs = [example for example in examples if isinstance(example, TokenizedPair)]
    sequences = {s.sequence_id: s for pair in pairs for s in (pair.chosen, pair.rejected)}
    return LiveScores(scores.reference_log_probs, scores.teacher_log_probs, None, live=live, sequences=sequences)


def require_one_vocabulary(teacher: LoadedModel, student: LoadedModel) -> None:
    """Refuses a teacher that reads other token ids than the student writes.

    Raises:
        RecipeError: says in which way the tokenizers differ.
    """
    reason = same_vocabulary(teacher.tokenizer, student.tokenizer)
    if reason is not None:
        raise RecipeError(
            f"the live teacher's tokenizer is not the student's: {reason}",
            why="the teacher reads the token ids of answers that the student draws",
            fix="choose a student of the teacher's family, or give the student the teacher's tokenizer",
        )
