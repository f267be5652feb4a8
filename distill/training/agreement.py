"""What every rank finds out by itself, and all have to find alike."""

import torch

from distill.errors import TrainingError
from distill.models.packed import PackForm
from distill.models.world import World

FORMS: tuple[PackForm | None, ...] = (None, "by_runs", "one", "by_layer_type")


def require_one_form(form: PackForm | None, world: World) -> None:
    """Refuses ranks that would cut one batch in different ways; all ranks call this together.

    Args:
        form: how this rank's student takes packed rows, found by a numerical trial.
        world: whose main rank the others are compared with.

    Raises:
        TrainingError: on all ranks, if any rank's form is another one than the main rank's.
    """
    own = FORMS.index(form)
    if world.summed(torch.tensor([abs(own - world.from_main(own))])).item():
        raise TrainingError(
            f"the ranks take packed rows in different ways, rank {world.rank} by form {form}",
            why="each would cut the batch into other passes",
            fix="use the same hardware and the same versions for all ranks",
        )
