"""Who may see which conversation: a split by content that no seed changes, and the draw from each split.

A tenth is for the final figures (`test`), a tenth for choosing settings (`valid`). The rest is divided: the
teacher's half is what a teacher made here is trained on, and the student's small `labelled` set is taken from it;
the other half gives `prompts`, whose answers are removed. So a teacher never sees a prompt that it will distil on.
"""

import hashlib
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill.data.records import Conversation
from distill.errors import DataError

log = logging.getLogger(__name__)

SPLITS = ("teacher", "prompts", "labelled", "valid", "test")
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Group:
    """Conversations that go to one split together, because they ask the same."""

    key: str
    conversations: tuple[Conversation, ...]


def normalised(text: str) -> str:
    """`text` without case, punctuation and doubled spaces: equal for what a reader would call the same question."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\u2019", "")
    return re.sub(r"\W+", " ", plain).strip() or plain.strip()


def grouped(conversations: Iterable[Conversation]) -> list[Group]:
    """Groups conversations whose user turns are the same but for case and punctuation, in order of appearance."""
    groups: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        key = " | ".join(normalised(turn.content) for turn in conversation.user_turns)
        groups.setdefault(key, []).append(conversation)
    return [Group(key, tuple(members)) for key, members in groups.items()]


def divided(
    strata: Iterable[Sequence[Group]], *, held_out: Sequence[str] = ("valid", "test")
) -> dict[str, list[Group]]:
    """Divides each stratum by the hash of its groups' keys: a tenth to each of `held_out`, the rest in two halves.

    Args:
        strata: groups of which every split gets its share, such as the questions of one scenario.
        held_out: the splits to cut off; those the source already brings are left out.

    Returns:
        Groups of `teacher`, `prompts` and each of `held_out`. A group with an unanswered conversation goes to
        `prompts` where the hash gives it to the teacher.
    """
    result: dict[str, list[Group]] = {"teacher": [], "prompts": [], **{split: [] for split in held_out}}
    for stratum in strata:
        rest = sorted(stratum, key=lambda group: (_hash(group.key), group.key))
        share = round(len(rest) * HELD_OUT_SHARE)
        for split in held_out:
            result[split] += rest[:share]
            rest = rest[share:]
        half = (len(rest) + 1) // 2
        for number, group in enumerate(rest):
            is_teachers = number < half and all(_is_answered(c) for c in group.conversations)
            result["teacher" if is_teachers else "prompts"].append(group)
    return result


def without_leaks(splits: Mapping[str, Sequence[Group]]) -> dict[str, list[Group]]:
    """Drops from each split what a stricter one asks too: test, then valid, then the teacher's, then prompts."""
    seen: set[str] = set()
    result: dict[str, list[Group]] = {}
    for split in ("test", "valid", "teacher", "prompts"):
        groups = splits.get(split, [])
        result[split] = [group for group in groups if group.key not in seen]
        if len(result[split]) < len(groups):
            log.warning(
                "dropped %d questions from %s: test, valid or the teacher's part asks them too",
                len(groups) - len(result[split]),
                split,
            )
        seen |= {group.key for group in groups}
    labelled = splits.get("labelled", [])
    held_out = {group.key for split in ("test", "valid", "prompts") for group in result[split]}
    result["labelled"] = [group for group in labelled if group.key not in held_out]
    if len(result["labelled"]) < len(labelled):
        log.warning(
            "dropped %d questions from labelled: test, valid or prompts ask them too",
            len(labelled) - len(result["labelled"]),
        )
    return result


def drawn(
    splits: Mapping[str, Sequence[Group]], *, numbers: Mapping[str, int | None], seed: int
) -> dict[str, list[Conversation]]:
    """Takes `numbers` conversations of each split (None: all), and removes the answers of `prompts`.

    The seed decides which groups of the training splits are taken and in which order; valid and test are the same
    for every seed. Without a `labelled` split of its own, labelled conversations are the teacher's.

    Raises:
        DataError: a split has fewer conversations than asked for.
    """
    result = {}
    for split in SPLITS:
        groups = splits.get(split) or (splits["teacher"] if split == "labelled" else [])
        salt = split if split in ("valid", "test") else f"{split}/{seed}"
        ordered = sorted(groups, key=lambda group: (_hash(f"{salt}/{group.key}"), group.key))
        conversations = [c for group in ordered for c in group.conversations]
        number = numbers.get(split)
        if number is not None and number > len(conversations):
            raise DataError(
                f"data.num_{split} is {number}, but the source has {len(conversations)} conversations for {split}",
                why="the split by content gives no more",
                fix=f"ask for at most {len(conversations)}, or leave data.num_{split} out to take all",
            )
        taken = conversations[:number]
        result[split] = [c.without_answers() for c in taken] if split == "prompts" else taken
    return result


def _is_answered(conversation: Conversation) -> bool:
    return any(message.role == "assistant" for message in conversation.messages)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
