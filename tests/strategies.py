"""What hypothesis draws: logits and log-probs as float64 tensors, token ids, dialogues."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from distill.data.records import Message


def tensors(*shape: int, low: float = -8.0, high: float = 8.0) -> st.SearchStrategy[Tensor]:
    """Float64 tensors of `shape` with entries from `low` to `high`."""
    size = torch.Size(shape).numel()
    numbers = st.lists(st.floats(low, high, allow_subnormal=False), min_size=size, max_size=size)
    return numbers.map(lambda values: torch.tensor(values, dtype=torch.float64).reshape(shape))


def logits(*positions: int, vocab: int = 5) -> st.SearchStrategy[Tensor]:
    """Logits of moderate size."""
    return tensors(*positions, vocab)


def pair_log_probs(num_terms: int, *, batch: int = 3) -> st.SearchStrategy[list[Tensor]]:
    """`num_terms` tensors [batch] of summed log-probs, as long answers have them."""
    return tensors(num_terms, batch, low=-400.0, high=0.0).map(lambda values: list(values.unbind(0)))


def token_ids(*, min_size: int = 1, max_size: int = 6, vocab: int = 50) -> st.SearchStrategy[list[int]]:
    """Ids of a small vocabulary."""
    return st.lists(st.integers(0, vocab - 1), min_size=min_size, max_size=max_size)


@st.composite
def messages(draw: st.DrawFn, *, max_turns: int = 3) -> tuple[Message, ...]:
    """A dialogue of 1 to `max_turns` answered user turns, perhaps under a system message."""
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
    text = text.filter(lambda content: bool(content.strip()))
    dialogue = [Message("system", draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, max_turns))):
        dialogue += [Message("user", draw(text)), Message("assistant", draw(text))]
    return tuple(dialogue)
