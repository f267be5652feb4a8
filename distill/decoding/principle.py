"""The two contexts of Linear Alignment: a dialogue with a principle before it, and the same dialogue without."""

from collections.abc import Sequence

from distill.data.records import Message
from distill.errors import DataError

Contexts = tuple[list[Message], list[Message]]


def contexts(dialogue: Sequence[Message], principle: str | None, *, contrast: str | None = None) -> Contexts:
    """The dialogue with and without the principle.

    Args:
        dialogue: ends in the user's turn; may begin with a system message.
        principle: goes into the system message, after what stands there; None: the dialogue's own system message is
            the principle.
        contrast: system message of the dialogue without the principle; None: its own one, if that is no principle.

    Raises:
        DataError: no principle is given, and the dialogue has no system message.
    """
    system = dialogue[0] if dialogue and dialogue[0].role == "system" else None
    turns = list(dialogue if system is None else dialogue[1:])
    if principle is None and system is None:
        first = turns[0].content if turns else ""
        raise DataError(
            f"the dialogue that begins {first!r:.60} has no system message",
            why="without a principle of its own, Linear Alignment takes the system message for one",
            fix="give a principle: linear_alignment.principle='...' in a recipe, --principle '...' on the command line",
        )
    parts = [text for text in (system.content if system else None, principle) if text is not None]
    kept = [] if system is None or principle is None else [system]
    without = kept if contrast is None else [Message("system", contrast)]
    return [Message("system", "\n\n".join(parts)), *turns], [*without, *turns]
