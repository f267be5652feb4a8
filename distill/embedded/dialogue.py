"""Draws dialogues of two to four turns in which later turns lean on earlier ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random

from distill.embedded.intents import Intent, intents, render, sentence
from distill.embedded.splits import PART_OF_SPLIT, belongs, part_of_combination, require_split
from distill.embedded.world import PERSONALITIES, cafe, milky_drinks, slot_values
from distill.errors import DataError

# Raised when the generator draws other dialogues from the same world files: runs on them start over.
CORPUS_VERSION = 2

_DECORATED = frozenset({"orders", "sums", "menu", "visiting", "bookings", "notes"})
_LEAD_INS = (
    "And ",
    "Also ",
    "Oh",
    "Actually",
    "Sorry",
    "Hmm",
    "So ",
    "No ",
    "No,",
    "Hi",
    "Hello",
    "Hey",
    "Forget",
    "On second",
)
_KEEP_CAPITAL = ("I ", "I'", "Wren", "Tin Robin")
_OPENING_SHARE, _FOLLOW_SHARE, _PLACED_SHARE = 0.75, 0.8, 0.08
_OPENER_SHARE, _CLOSER_SHARE = 0.35, 0.12
_TRIES = 400

Frames = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Turn:
    """What the guest wants in one turn, and whether it refers to an earlier one."""

    intent: Intent
    slots: dict[str, str]
    follows: bool


@dataclass
class Plan:
    """The turns chosen so far and the frames (order, booking, guest ...) that later turns may refer to."""

    turns: list[Turn] = field(default_factory=list)
    frames: Frames = field(default_factory=dict)

    def add(self, turn: Turn) -> None:
        """Appends a turn and keeps what it leaves behind."""
        self.turns.append(turn)
        if turn.intent.clears and turn.intent.needs:
            self.frames.pop(turn.intent.needs)
        if turn.intent.sets:
            for frame in [frame for frame in self.frames if _topic(frame) == _topic(turn.intent.sets)]:
                del self.frames[frame]
            self.frames[turn.intent.sets] = turn.slots


def draw(split: str, *, num_dialogues: int, seed: int) -> list[dict[str, object]]:
    """Different dialogues of a split, the same ones for the same seed on every machine.

    Returns:
        Rows of `id`, `messages` (a system message, then user and assistant in turn) and `facts`, which
        `check_answer` reads.

    Raises:
        DataError: the split is unknown, or holds fewer different dialogues than asked for.
    """
    require_split(split)
    rng = Random(f"{split}/{seed}")
    seen: set[tuple[str, ...]] = set()
    rows: list[dict[str, object]] = []
    while len(rows) < num_dialogues:
        for _ in range(_TRIES):
            personality = rng.choice(PERSONALITIES)
            plan = draw_plan(rng, split, num_turns=rng.choices((2, 3, 4), weights=(4, 4, 2))[0])
            texts = draw_user_texts(rng, split, plan)
            if texts is not None and (personality, *texts) not in seen:
                break
        else:
            raise DataError(
                f"{num_dialogues} dialogues of split {split!r} were asked for",
                why=f"after {len(rows)} different ones no new one was found",
                fix=f"ask for at most {len(rows)}",
            )
        seen.add((personality, *texts))
        system = rng.choice(cafe()["personalities"][personality]["systems"])
        rows.append(as_row(f"{split}-{seed}-{len(rows):06d}", system, personality, plan.turns, texts))
    return rows


def as_row(row_id: str, system: str, personality: str, turns: list[Turn], texts: tuple[str, ...]) -> dict[str, object]:
    """The dialogue with the world's own answers and the facts that judge any other answer."""
    messages = [{"role": "system", "content": system}]
    for turn, text in zip(turns, texts, strict=True):
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": turn.intent.answer(personality, turn.slots)})
    facts = {
        "checker": "embedded",
        "personality": personality,
        "turns": [turn_facts(turn) for turn in turns],
    }
    return {"id": row_id, "messages": messages, "facts": facts}


def turn_facts(turn: Turn) -> dict[str, object]:
    """What the checker has to know about one turn."""
    values = turn.intent.values(turn.slots)
    expected = {name: values[name] for name in turn.intent.derived}
    return {
        "intent": turn.intent.id,
        "category": turn.intent.category,
        "slots": dict(turn.slots),
        "expected": expected,
        "follows": turn.follows,
    }


def draw_plan(rng: Random, split: str, *, num_turns: int) -> Plan:
    """Chooses intents and slots, all of them allowed in the split."""
    while True:
        plan = Plan()
        for position in range(num_turns):
            turn = _draw_turn(rng, split, plan, is_last=position == num_turns - 1)
            if turn is None:
                break
            plan.add(turn)
        else:
            return plan


def _draw_turn(rng: Random, split: str, plan: Plan, *, is_last: bool) -> Turn | None:
    for _ in range(8):
        intent = _draw_intent(rng, plan, is_last=is_last)
        slots = _draw_slots(rng, split, intent, plan.frames)
        if slots is not None:
            return Turn(intent, slots, follows=intent.needs is not None)
    return None


def _draw_intent(rng: Random, plan: Plan, *, is_last: bool) -> Intent:
    used = {turn.intent.id for turn in plan.turns}
    if plan.turns and rng.random() < _FOLLOW_SHARE:
        follow_ups = [i for frame in plan.frames for i in _by_need()[frame] if not used & {i.id, *i.repeats}]
        if follow_ups:
            return rng.choice(follow_ups)
    topics = {_topic(frame) for frame in plan.frames}
    place = "any" if rng.random() > _PLACED_SHARE else "last" if is_last else "any" if plan.turns else "first"
    is_opening = place == "any" and not plan.turns and rng.random() < _OPENING_SHARE
    while True:
        intent = rng.choice(_openings(rng) if is_opening else _independent(place))
        if intent.id not in used and not (intent.sets and _topic(intent.sets) in topics):
            return intent


def _draw_slots(rng: Random, split: str, intent: Intent, frames: Frames) -> dict[str, str] | None:
    before = frames[intent.needs] if intent.needs else {}
    part = PART_OF_SPLIT[split]
    for _ in range(12 if intent.new else 1):
        slots = dict(before)
        for slot in intent.new:
            slots[slot] = _draw_value(rng, slot, before, frames, has_milk="milk" in (*intent.new, *before))
        if part_of_combination(intent, slots) in (part, None):
            return slots
    return None


def _draw_value(rng: Random, slot: str, before: Mapping[str, str], frames: Frames, *, has_milk: bool) -> str:
    guest = frames.get("guest", {}).get("name")
    if slot == "name" and guest and "name" not in before:
        return guest
    choices = milky_drinks() if slot == "drink" and has_milk else slot_values(slot)
    taken = {before.get(slot), guest if slot == "friend" else None}
    while True:
        value = rng.choice(choices)
        if value not in taken:
            return value


def draw_user_texts(rng: Random, split: str, plan: Plan) -> tuple[str, ...] | None:
    """Words for the plan that put the dialogue into the split; None if none were found."""
    texts = [_draw_text(rng, split, turn, is_first=not position) for position, turn in enumerate(plan.turns)]
    for _ in range(60):
        if belongs(split, tuple(texts)):
            return tuple(texts)
        position = rng.randrange(len(texts))
        texts[position] = _draw_text(rng, split, plan.turns[position], is_first=not position)
    return None


def _draw_text(rng: Random, split: str, turn: Turn, *, is_first: bool) -> str:
    phrasing = rng.choice(turn.intent.phrasings[PART_OF_SPLIT[split]])
    text = render(phrasing, turn.intent.values(turn.slots))
    if turn.intent.category in _DECORATED:
        if rng.random() < _OPENER_SHARE and not text.startswith(_LEAD_INS):
            opener = rng.choice(cafe()["openers"]["first" if is_first else "later"])
            starts_with_name = text.startswith(turn.slots.get("name", "\n"))
            keeps_capital = starts_with_name or text.startswith(_KEEP_CAPITAL)
            text = f"{opener} {text if keeps_capital else text[0].lower() + text[1:]}"
        if rng.random() < _CLOSER_SHARE:
            text = f"{text} {rng.choice(cafe()['closers'])}"
    return sentence(text)


def _topic(frame: str) -> str:
    """`order` and `order_food` are one topic: the second takes the place of the first."""
    return frame.partition("_")[0]


@cache
def _independent(place: str) -> tuple[Intent, ...]:
    return tuple(intent for intent in intents().values() if intent.needs is None and intent.place == place)


def _openings(rng: Random) -> tuple[Intent, ...]:
    """The ways to open a frame; a frame comes the more often the more follow-ups it has."""
    frames, weights, openings = _opening_frames()
    return openings[rng.choices(frames, weights)[0]]


@cache
def _opening_frames() -> tuple[list[str], list[int], dict[str, tuple[Intent, ...]]]:
    frames = [frame for frame in _by_need() if any(i.sets == frame for i in _independent("any"))]
    openings = {frame: tuple(i for i in _independent("any") if i.sets == frame) for frame in frames}
    return frames, [len(_by_need()[frame]) + 1 for frame in frames], openings


@cache
def _by_need() -> dict[str, tuple[Intent, ...]]:
    frames = dict.fromkeys(intent.sets for intent in intents().values() if intent.sets)
    return {frame: tuple(i for i in intents().values() if i.needs == frame) for frame in frames if frame}
