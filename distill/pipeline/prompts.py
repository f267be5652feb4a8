"""Which of the data's prompts each stage asks: with `sft.num_prompts`, the pairs come from prompts SFT never saw."""

from distill.data import Conversation, read_conversations
from distill.errors import RecipeError
from distill.pipeline.run_folder import RunFolder


def prompts_of_sft(run: RunFolder) -> list[Conversation]:
    """The prompts that the teacher answers for SFT: the first `sft.num_prompts`, or all.

    Raises:
        RecipeError: pairs are wanted too, and none are left for them.
    """
    prompts = read_conversations(run.conversations("prompts"))
    num = _num_kept(run, len(prompts))
    return prompts if num is None else prompts[:num]


def prompts_of_pairs(run: RunFolder) -> list[Conversation]:
    """The prompts that teacher and student both answer: those that SFT left over, or all.

    Raises:
        RecipeError: SFT left none over.
    """
    prompts = read_conversations(run.conversations("prompts"))
    return prompts[_num_kept(run, len(prompts)) :]


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
