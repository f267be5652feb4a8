"""What a loss may ask about each token of a chunk beside its target's log-prob, by how much of the logits it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

ChunkTerm: TypeAlias = Callable[[Tensor, slice], Tensor]
"""(the student's log-probs [chunk, vocab], which of the tokens these are) -> one value per token of the chunk.

Whatever the term compares them with (a teacher's rows) it looks up by the range of tokens. The log-probs are in
float32 or wider and carry gradients; they must not be changed in place.
"""


@dataclass(frozen=True)
class ListedTerm:
    """A term that sees some tokens of the vocabulary one by one and all others as one event.

    Its gradient needs no table as wide as the vocabulary: the others share theirs in proportion to their
    probabilities.

    Args:
        value: (log-probs [chunk, entries + 1], which of the tokens these are) -> one value per token of the chunk.
            The last column is the mass of all tokens that are not listed; entries that do not count are -inf.
        token_ids: of the entries, for all tokens; those that count differ within a row.
        is_listed: which entries count; the others fill the rectangle up.
    """

    value: Callable[[Tensor, slice], Tensor]
    token_ids: Int[Tensor, "tokens entries"]
    is_listed: Bool[Tensor, "tokens entries"]


@dataclass(frozen=True)
class ForwardKlTerm:
    """KL(teacher || student) over a common vocabulary, whose gradient is the difference of probabilities.

    Args:
        teacher_logits: (which of the tokens) -> finite logits [chunk, vocab] in float32 or wider; they are
            overwritten.
    """

    teacher_logits: Callable[[slice], Float[Tensor, "chunk vocab"]]


ChunkTerms: TypeAlias = Sequence[ChunkTerm] | ListedTerm | ForwardKlTerm
"""Any number of terms that see whole distributions, or one of those with a shorter way."""


def num_terms(terms: ChunkTerms) -> int:
    """How many values a token has beside its log-prob."""
    return 1 if isinstance(terms, ListedTerm | ForwardKlTerm) else len(terms)
