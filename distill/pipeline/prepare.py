"""Stage `prepare`: the data section becomes one conversations file a role."""

from distill.data import load_splits, write_conversations
from distill.pipeline.run_folder import RunFolder


def run_prepare(run: RunFolder) -> dict[str, object]:
    """Writes teacher, prompts, labelled, valid and test conversations; returns their counts."""
    splits = load_splits(run.recipe.data, seed=run.recipe.seed)
    for role, conversations in splits.items():
        write_conversations(run.conversations(role), conversations)
    return {f"num_{role}": len(conversations) for role, conversations in splits.items()}
