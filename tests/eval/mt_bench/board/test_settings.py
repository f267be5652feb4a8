import pytest

from distill.errors import RecipeError
from distill.settings import validated
from eval.mt_bench.board.settings import BoardSettings


def test_a_misspelt_wish_is_told():
    with pytest.raises(RecipeError, match=r"compatt is not a known key.*did you mean compat"):
        validated(BoardSettings, {"compatt": True}, source="show")


def test_no_resample_is_refused():
    with pytest.raises(RecipeError, match="num_resamples is 0: .*must be positive"):
        validated(BoardSettings, {"num_resamples": 0}, source="show")
