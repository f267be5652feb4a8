"""What formats are written with, beside the model itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data import Conversation, read_conversations, tokenize_conversation
from distill.errors import RecipeError
from distill.models import DtypeName, load_tokenizer

MAX_WINDOWS, MAX_WINDOW_TOKENS = 128, 512


@dataclass(frozen=True)
class Writing:
    """How a format is written.

    Attributes:
        dtype: of the merged weights.
        calibration: chats on which quantizers may fit scales and roundings; none of them is held out.
        llmcompressor_python: the interpreter of llm-compressor's environment; None looks in the usual places.
    """

    dtype: DtypeName = "float32"
    calibration: tuple[Conversation, ...] = ()
    llmcompressor_python: Path | None = None


def read_calibration(path: Path | None, *, held_out: Sequence[Conversation]) -> tuple[Conversation, ...]:
    """The conversations in the file at `path`; none without a file.

    Raises:
        DataError: the file is missing or damaged.
        RecipeError: it is empty, or holds a chat on which the artefacts are to be measured.
    """
    if path is None:
        return ()
    chats = tuple(read_conversations(path))
    if not chats:
        raise RecipeError(f"export.calibration={path} holds no conversations", fix="name the training conversations")
    measured = {chat.messages for chat in held_out}
    shared = sum(chat.messages in measured for chat in chats)
    if shared:
        raise RecipeError(
            f"export.calibration={path} holds {shared} of the held-out conversations",
            why="a format fitted to what it is measured on looks better than it is",
            fix="calibrate on conversations that the student was trained on",
        )
    return chats


def calibration_windows(merged_folder: Path, chats: Sequence[Conversation]) -> list[list[int]]:
    """Token ids of the chats as the student was trained on them, one after another, cut into windows of one length.

    Raises:
        RecipeError: no chat has an answer.
    """
    tokenizer = load_tokenizer(merged_folder)
    ids: list[int] = []
    for chat in chats:
        row = tokenize_conversation(tokenizer, chat, max_length_tokens=MAX_WINDOW_TOKENS)
        ids.extend(row.input_ids if row is not None else ())
        if len(ids) >= MAX_WINDOWS * MAX_WINDOW_TOKENS:
            break
    if not ids:
        raise RecipeError("export.calibration holds no chat with an answer", fix="name the training conversations")
    length = min(MAX_WINDOW_TOKENS, len(ids))
    return [ids[first : first + length] for first in range(0, len(ids) - length + 1, length)][:MAX_WINDOWS]
