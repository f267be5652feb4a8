import pytest
import typer

from distill.cli_refusal import fail, refuse_usage
from distill.errors import DistillError, GateError


@pytest.mark.parametrize(
    ("error", "code"), [(DistillError("it broke", why="so", fix="do"), 1), (GateError("missed"), 3)]
)
def test_an_error_ends_with_its_message_its_notes_and_its_code(capsys, error: DistillError, code: int):
    error.add_note("in stage export")
    with pytest.raises(SystemExit) as stop:
        fail(error)
    assert stop.value.code == code
    assert capsys.readouterr() == ("", f"error: {error}\nin stage export\n")


@pytest.mark.parametrize(
    ("said", "shown"),
    [("No such option: --fast", "error: No such option: --fast\nfix: distill --help\n"), ("Usage: x", "Usage: x\n")],
)
def test_wrong_words_end_with_code_two_and_help_with_itself(capsys, said: str, shown: str):
    with pytest.raises(SystemExit) as stop:
        refuse_usage(typer.TyperException(said))
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", shown)
