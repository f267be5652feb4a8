"""Which of the data's prompts each stage asks: with `sft.num_prompts`, the pairs come from prompts SFT never saw."""

import logging

from distill.data import Conversation, read_conversations
from distill.errors import RecipeError
from distill.pipeline.run_folder import RunFolder

log = logging.getLogger(__name__)


def prompts_of_sft(run: RunFolder) -> list[Conversation]:
    """The prompts that the teacher answers for SFT: the first `sft.num_prompts`, or all.

    Raises:
        RecipeError: pairs are wanted too, and none are left for them.
    """
    prompts = read_conversations(run.conversations("prompts"))
    num = _num_kept(run, len(prompts))
    return without_left_out(run, prompts if num is None else prompts[:num])


def without_left_out(run: RunFolder, conversations: list[Conversation]) -> list[Conversation]:
    """The conversations in which no turn is of a category or intent that `sft.leave_out` names.

    Raises:
        RecipeError: none is left, or no conversation has such a turn, so that a name may be wrong.
    """
    names = set() if run.recipe.sft is None else set(run.recipe.sft.leave_out)
    kept = [conversation for conversation in conversations if not names & kinds_of(conversation)]
    if names and (not kept or len(kept) == len(conversations)):
        found = "is in no dialogue" if kept else "leaves no dialogue"
        raise RecipeError(
            f"sft.leave_out is {', '.join(sorted(names))}, which {found}",
            why=f"{len(conversations)} dialogues name categories and intents in facts.turns",
            fix="name a category or an intent of the data",
        )
    if names:
        log.info("sft.leave_out: %d of %d dialogues are left out", len(conversations) - len(kept), len(conversations))
    return kept


def kinds_of(conversation: Conversation) -> set[str]:
    """The categories and intents of a dialogue's turns, where its facts tell them."""
    turns = conversation.facts.get("turns")
    told = turns if isinstance(turns, list) else []
    return {
        str(turn[name]) for turn in told if isinstance(turn, dict) for name in ("category", "intent") if name in turn
    }


def prompts_of_pairs(run: RunFolder) -> list[Conversation]:
    """The prompts that teacher and student both answer: those that SFT left over, or all; without what it leaves out.

    Raises:
        RecipeError: SFT left none over.
    """
    prompts = read_conversations(run.conversations("prompts"))
    return without_left_out(run, prompts[_num_kept(run, len(prompts)) :])


def _num_kept(run: RunFolder, num_prompts: int) -> int | None:
    """How many prompts SFT keeps for itself; None: nothing is kept apart."""
    sft = run.recipe.sft
    if sft is None or sft.num_prompts is None:
        return None
    if run.recipe.pairs is not None and sft.num_prompts >= num_prompts:
        raise RecipeError(
            f"sft.num_prompts is {sft.num_prompts}, but the data holds {num_prompts} prompts",
            why="none are left for the pairs",
            fix="lower sft.num_prompts, or leave it out to use every prompt in both stages",
        )
    return sft.num_prompts
