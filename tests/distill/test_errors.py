import pytest

from distill import errors
from distill.errors import DistillError


def test_a_message_says_what_why_and_fix():
    error = DistillError("beta is 0", why="it divides", fix="set beta=0.1")
    assert str(error) == "beta is 0\nwhy: it divides\nfix: set beta=0.1"
    assert (error.what, error.why, error.fix) == ("beta is 0", "it divides", "set beta=0.1")


def test_parts_that_are_not_given_leave_no_line():
    assert str(DistillError("beta is 0")) == "beta is 0"
    assert str(DistillError("beta is 0", fix="set beta=0.1")) == "beta is 0\nfix: set beta=0.1"


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("RecipeError", 2),
        ("DataError", 2),
        ("ModelError", 2),
        ("CacheError", 2),
        ("EndpointError", 1),
        ("ExportError", 1),
        ("ArtefactError", 2),
        ("TrainingError", 1),
        ("StageError", 1),
        ("GateError", 3),
    ],
)
def test_every_error_is_a_distill_error_with_its_exit_code(name, exit_code):
    error = getattr(errors, name)
    assert issubclass(error, DistillError)
    assert error.exit_code == exit_code
    assert f"{name} " in str(errors.__doc__)
