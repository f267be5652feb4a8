"""Long work cut into blocks, each written whole or not at all, so that a run that is cut off goes on from there."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from distill.data import Conversation
from distill.errors import DataError
from distill.files import fingerprint, read_json, read_jsonl, write_json, write_jsonl
from distill.settings import Settings

log = logging.getLogger(__name__)

BLOCKS_NAME = "blocks"
PLAN_NAME = "plan.json"
REPORT_NAME = "report.json"
PROMPTS_PER_BLOCK = 256

Row = Mapping[str, object]
Item = TypeVar("Item")


def in_blocks(items: Sequence[Item], *, size: int) -> list[Sequence[Item]]:
    """Cuts a sequence into runs of `size`, the last one shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def conversations_in_blocks(
    what: str,
    conversations: Sequence[Conversation],
    make: Callable[[Sequence[Conversation]], Sequence[Row]],
    *,
    settings: Settings,
    seed: int,
    models_fingerprint: str,
    prompts_per_block: int,
    folder: Path,
) -> Iterator[list[dict[str, object]]]:
    """Yields the rows that `make` gives for each block of conversations; blocks of an earlier run are read.

    Args:
        what: the kind of rows, one of the things that blocks are told apart by.
        conversations: in order; ids are unique.
        make: one block's rows.
        settings: what shapes the rows.
        seed: of the draws.
        models_fingerprint: of the models that answer.
        prompts_per_block: conversations that a cut-off loses at most.
        folder: the stage's folder.

    Raises:
        DataError: two conversations share an id, or a block is damaged.
    """
    plan = {
        "what": what,
        "conversations": fingerprint_of_conversations(conversations),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "models": models_fingerprint,
        "prompts_per_block": prompts_per_block,
    }
    return made_blocks(begin_blocks(folder, plan), in_blocks(conversations, size=prompts_per_block), make)


def begin_blocks(folder: Path, plan: Mapping[str, object]) -> Path:
    """The folder for the blocks of `plan`; blocks and report of any other plan answer other questions and are deleted.

    Args:
        folder: the stage's folder.
        plan: everything the blocks depend on, JSON-able.
    """
    blocks = folder / BLOCKS_NAME
    found = _read_plan(blocks)
    if found == dict(plan):
        return blocks
    (folder / REPORT_NAME).unlink(missing_ok=True)
    if blocks.exists():
        differing = sorted(key for key in plan if found is None or found.get(key) != plan[key])
        log.info("%s: deleting blocks of another run (other %s)", blocks, ", ".join(differing))
        shutil.rmtree(blocks)
    write_json(blocks / PLAN_NAME, dict(plan))
    return blocks


def made_blocks(
    blocks: Path, parts: Sequence[Sequence[Item]], make: Callable[[Sequence[Item]], Sequence[Row]]
) -> Iterator[list[dict[str, object]]]:
    """Yields each block's rows: read where an earlier run wrote them, else made and written.

    Raises:
        DataError: a block is damaged; names file and line.
    """
    num_found = 0
    for number, part in enumerate(parts):
        path = blocks / f"{number:05d}.jsonl"
        if path.exists():
            num_found += 1
        else:
            write_jsonl(path, make(part))
        yield [row for _, row in read_jsonl(path)]
    if num_found:
        log.info("%s: %d of %d blocks stood from an earlier run", blocks, num_found, len(parts))


def fingerprint_of_conversations(conversations: Sequence[Conversation]) -> str:
    """The hex sha256 over ids and messages, in order.

    Raises:
        DataError: two conversations share an id; what is made from them could not be told apart.
    """
    seen: set[str] = set()
    for conversation in conversations:
        if conversation.id in seen:
            raise DataError(
                f"two conversations have the id {conversation.id!r}",
                why="pairs and answers are named after their conversation",
                fix="give each row an id of its own",
            )
        seen.add(conversation.id)
    return fingerprint([[row.id, [message.to_json() for message in row.messages]] for row in conversations])


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose; teacher and student drawing with one seed would tend to the same answer."""
    return int(fingerprint([seed, purpose])[:8], 16)


def _read_plan(blocks: Path) -> dict[str, object] | None:
    try:
        return read_json(blocks / PLAN_NAME)
    except DataError:
        return None
