import pytest
import torch

from distill.errors import TrainingError
from distill.models.packed import PackForm
from distill.models.world import World
from distill.training.agreement import require_one_form


class TwoRanks(World):
    """Rank 0 of two, seen alone: what the other rank adds to a sum is given."""

    added: float = 0.0

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.added

    def from_main(self, value: int) -> int:
        return value


@pytest.mark.parametrize("form", [None, "by_runs", "one", "by_layer_type"])
def test_ranks_of_one_form_go_on(form: PackForm | None):
    require_one_form(form, World(0, 1, 0))


def test_a_rank_of_another_form_stops_all():
    ranks = TwoRanks(0, 2, 0)
    object.__setattr__(ranks, "added", 1)
    with pytest.raises(TrainingError, match="the ranks take packed rows in different ways, rank 0 by form by_runs"):
        require_one_form("by_runs", ranks)
