"""Which examples share a forward pass: as few passes as the token budget allows, alike in work; pure."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from distill.data import TokenizedConversation, TokenizedPair
from distill.data.prompt_packs import PackItem, PromptGroup, dialogue_item, group_item
from distill.models.packed import PackForm


class Budget(NamedTuple):
    """What one rank reads in one forward pass at most; an example beyond `max_tokens` makes a pass of its own."""

    max_tokens: int
    max_examples: int | None = None


def groups_of(pair: TokenizedPair, *, shares_prompt: bool) -> list[PromptGroup]:
    """A pair's prompt with both answers, or, for models that read one sequence a row and prompts that differ, two."""
    chosen, rejected = pair.chosen, pair.rejected
    if shares_prompt and chosen.prompt_ids == rejected.prompt_ids:
        return [PromptGroup(chosen.prompt_ids, (chosen.completion_ids, rejected.completion_ids))]
    return [PromptGroup(answer.prompt_ids, (answer.completion_ids,)) for answer in (chosen, rejected)]


def items_of(example: TokenizedConversation | TokenizedPair, *, form: PackForm | None) -> list[PackItem]:
    """What rows hold of an example; with `form` None one item is one sequence."""
    if isinstance(example, TokenizedConversation):
        return [dialogue_item(example)]
    return [group_item(group) for group in groups_of(example, shares_prompt=form is not None)]


def max_width(items: Sequence[PackItem], *, form: PackForm | None) -> int | None:
    """Positions of a padded row: the longest item's, beside which shorter ones stand; None: one item a row."""
    return None if form is None else max(len(item.input_ids) for item in items)


def size_of(example: TokenizedConversation | TokenizedPair, *, form: PackForm | None) -> int:
    """Positions that an example takes of the budget, the padding of its own rows to each other included."""
    widths = [len(item.input_ids) for item in items_of(example, form=form)]
    return sum(widths) if form == "by_runs" else len(widths) * max(widths)


def balanced_passes(
    sizes: Sequence[int], indices: Sequence[int], *, budget: Budget, world_size: int
) -> list[list[int]]:
    """Passes without padding, a multiple of `world_size` of them; rank r takes every `world_size`-th from r on.

    As few as the budget allows, the sums of their sizes alike: the largest example first, each to the pass with
    least in it so far. Passes stand largest first, so that the ranks work on like amounts at a time and a pass that
    does not fit into memory fails at once. Those without examples stand last.
    """
    ordered = sorted(indices, key=lambda index: (-sizes[index], index))
    num_rounds = max(
        -(-sum(min(sizes[index], budget.max_tokens) for index in ordered) // (budget.max_tokens * world_size)),
        1 if budget.max_examples is None else -(-len(ordered) // (budget.max_examples * world_size)),
    )
    while True:
        parts = _spread(sizes, ordered, num_parts=num_rounds * world_size, max_examples=budget.max_examples)
        if all(len(part) <= 1 or sum(sizes[index] for index in part) <= budget.max_tokens for part in parts):
            return sorted(parts, key=lambda part: (-sum(sizes[index] for index in part), part))
        num_rounds += 1


def padded_passes(sizes: Sequence[int], indices: Sequence[int], *, budget: Budget, world_size: int) -> list[list[int]]:
    """The same for rows that are padded to the longest of their pass: runs of examples alike in size."""
    parts: list[list[int]] = []
    for index in sorted(indices, key=lambda index: (-sizes[index], index)):
        part = parts[-1] if parts else []
        fits = budget.max_examples is None or len(part) < budget.max_examples
        if part and fits and sizes[part[0]] * (len(part) + 1) <= budget.max_tokens:
            part.append(index)
        else:
            parts.append([index])
    return parts + [[] for _ in range(-len(parts) % world_size)]


def _spread(
    sizes: Sequence[int], ordered: Sequence[int], *, num_parts: int, max_examples: int | None
) -> list[list[int]]:
    """Each example in turn to the part with the smallest sum that has room, ties to the first."""
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    open_parts = [(0, number) for number in range(num_parts)]
    for index in ordered:
        total, number = heapq.heappop(open_parts)
        parts[number].append(index)
        if max_examples is None or len(parts[number]) < max_examples:
            heapq.heappush(open_parts, (total + sizes[index], number))
    return parts
