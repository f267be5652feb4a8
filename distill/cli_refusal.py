"""How a command that cannot go on ends: one message on stderr, without a traceback, and an exit code."""

import sys
from typing import NoReturn

import typer

from distill.errors import DistillError
from distill.launch import is_launched, tell_launcher


def refuse_usage(error: typer.TyperException) -> NoReturn:
    """Exit code 2 with the parser's message, which for `distill` alone is the help."""
    context: typer.Context | None = getattr(error, "ctx", None)
    command = "distill" if context is None else context.command_path
    message = error.format_message()
    is_help = message.startswith("Usage:")
    print(message if is_help else f"error: {message}\nfix: {command} --help", file=sys.stderr)
    sys.exit(2)


def fail(error: DistillError) -> NoReturn:
    """The error's own exit code with its message and notes; a launcher is told in its own way."""
    if is_launched():
        tell_launcher(error)
        sys.exit(error.exit_code)
    print(f"error: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(note, file=sys.stderr)
    sys.exit(error.exit_code)
