"""Which phrasing, slot combination and dialogue belongs to which split."""

from functools import lru_cache
from hashlib import blake2b

from distill.embedded.intents import Intent, Part
from distill.embedded.world import Values
from distill.errors import DataError

SPLITS = ("teacher", "prompts", "labelled", "valid", "test")

PART_OF_SPLIT: dict[str, Part] = {
    "teacher": "train",
    "prompts": "train",
    "labelled": "train",
    "valid": "valid",
    "test": "test",
}
"""The three training splits share phrasings and slot combinations, never a dialogue."""

_SHARES = {"teacher": range(50), "prompts": range(50, 95), "labelled": range(95, 100)}
_OPEN_SLOTS = {"name", "friend"}


def _hash(text: str, modulus: int) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % modulus


@lru_cache(maxsize=200_000)
def _part(key: str) -> Part:
    bucket = _hash(key, 10)
    if bucket < 2:
        return "test"
    return "valid" if bucket == 2 else "train"


def part_of_combination(intent: Intent, slots: Values) -> Part | None:
    """The only part in which this combination of slots may be used; None: it may be used in all.

    Two slots or more make a combination, and so does a single name. A single value of a closed list (a
    food, a day) is not one: its facts have to be learned before they can be asked in new words. Turns that
    share a frame ("a large latte for Ada", "what did I order?") share the decision.
    """
    if len(slots) < 2 and not _OPEN_SLOTS & slots.keys():
        return None
    frame = intent.sets or (intent.id if intent.new else intent.needs)
    return _part("|".join([str(frame), *(f"{slot}={slots[slot]}" for slot in sorted(slots))]))


def belongs(split: str, user_texts: tuple[str, ...]) -> bool:
    """Whether a dialogue of these user turns may be drawn for the split.

    Dialogues of the training part are dealt out by a hash of what the guest says: 50 in 100 to `teacher`,
    45 to `prompts`, 5 to `labelled`.
    """
    share = _SHARES.get(split)
    return share is None or _hash("\n".join(user_texts), 100) in share


def require_split(split: str) -> None:
    """Refuses an unknown split.

    Raises:
        DataError: the split is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise DataError(
            f"split is {split!r}", why=f"the embedded world has {', '.join(SPLITS)}", fix="name one of these"
        )
