"""Preference pairs for distillation: the teacher's answer is chosen, the student's is rejected."""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill.data import Conversation, Message, PreferencePair, write_pairs
from distill.data.records import messages_from
from distill.decoding import Generation, Generator, LinearAlignmentSettings, SamplingSettings, answer_conversations
from distill.files import write_json
from distill.preference.answers import refusal, with_answers
from distill.preference.blocks import (
    PROMPTS_PER_BLOCK,
    REPORT_NAME,
    conversations_in_blocks,
    derived_seed,
    fingerprint_of_conversations,
    in_blocks,
)
from distill.preference.rewarded import RewardedSettings, best_by_reward, refuse_conflicts
from distill.progress import tracked
from distill.reward import Scorer
from distill.settings import Settings

log = logging.getLogger(__name__)

PAIRS_NAME = "pairs.jsonl"
REASONS = (
    "identical",
    "teacher_empty",
    "student_empty",
    "teacher_unfinished",
    "student_unfinished",
    "context",
    "reward",
    "reward_unread",
    "beyond_max_pairs",
)


class PairsSettings(Settings):
    """Which turns are answered, and how."""

    teacher_sampling: SamplingSettings = Field(SamplingSettings(), description="how the teacher answers")
    student_sampling: SamplingSettings = Field(SamplingSettings(), description="how the student answers")
    linear_alignment: LinearAlignmentSettings | None = Field(
        None, description="a principle that steers the teacher's answers; the pairs' prompts do not tell it"
    )
    reward: RewardedSettings | None = Field(
        None,
        description="a reward model chooses the teacher's best of n answers, and drops pairs that it ranks wrongly",
    )
    turn: Literal["last", "all", "random"] = Field("all", description="user turns of a conversation that give a pair")
    max_pairs: int | None = Field(None, gt=0, description="stop at this many pairs; none: all")
    keep_unfinished: bool = Field(
        False, description="keep answers that hit max_new_tokens; the student then learns an end the model never wrote"
    )


@dataclass(frozen=True)
class PairsReport:
    """The pairs, and why each other turn that was answered gave none.

    Attributes:
        pairs: in the order of their conversations.
        num_conversations: how many were given.
        num_asked: turns that were to give a pair; the sum of the pairs and of all `dropped`. Conversations that
            were never reached because of `max_pairs` do not count.
        dropped: turns by reason; `context` says that an earlier answer of the teacher was empty or unfinished.
    """

    pairs: tuple[PreferencePair, ...]
    num_conversations: int
    num_asked: int
    dropped: Mapping[str, int]

    @property
    def num_identical_dropped(self) -> int:
        """Turns at which teacher and student said the same."""
        return self.dropped["identical"]

    @property
    def num_empty_dropped(self) -> int:
        """Turns at which teacher or student said nothing."""
        return self.dropped["teacher_empty"] + self.dropped["student_empty"]

    @property
    def num_unfinished_dropped(self) -> int:
        """Turns at which teacher or student hit the length limit."""
        return self.dropped["teacher_unfinished"] + self.dropped["student_unfinished"]

    def to_json(self) -> dict[str, object]:
        """The counts, without the pairs."""
        return {
            "num_pairs": len(self.pairs),
            "num_conversations": self.num_conversations,
            "num_asked": self.num_asked,
            **{f"num_{reason}_dropped": count for reason, count in self.dropped.items()},
        }


def build_pairs(
    conversations: Sequence[Conversation],
    *,
    teacher: Generator,
    student: Generator,
    settings: PairsSettings,
    seed: int,
    scorer: Scorer | None = None,
    prompts_per_block: int = PROMPTS_PER_BLOCK,
) -> PairsReport:
    """Both models answer the same prompts; what stands before a turn are the teacher's own earlier answers.

    Args:
        conversations: their system messages and user turns are the questions; ids are unique.
        teacher: its answers are chosen.
        student: its answers are rejected.
        settings: turns, sampling, limits.
        seed: of the draws and of the choice of turns.
        scorer: what `settings.reward` asks; needed where that is set.
        prompts_per_block: conversations that are answered together.

    Raises:
        DataError: two conversations share an id.
    """
    fingerprint_of_conversations(conversations)
    parts = in_blocks(conversations, size=prompts_per_block)
    blocks = (
        pair_rows(part, teacher=teacher, student=student, settings=settings, seed=seed, scorer=scorer) for part in parts
    )
    return _report(blocks, conversations, settings=settings)


def write_pairs_stage(
    conversations: Sequence[Conversation],
    *,
    teacher: Generator,
    student: Generator,
    settings: PairsSettings,
    seed: int,
    output_dir: Path,
    scorer: Scorer | None = None,
    models_fingerprint: str = "",
    prompts_per_block: int = PROMPTS_PER_BLOCK,
) -> PairsReport:
    """`build_pairs` that goes on where it was cut off.

    Args:
        conversations: as in `build_pairs`.
        teacher: as in `build_pairs`.
        student: as in `build_pairs`.
        settings: as in `build_pairs`.
        seed: as in `build_pairs`.
        output_dir: receives blocks (every turn with its fate), `pairs.jsonl` and, last, `report.json`.
        scorer: as in `build_pairs`.
        models_fingerprint: of teacher, student and scorer; blocks made with others are not used.
        prompts_per_block: conversations that a cut-off loses at most.

    Raises:
        DataError: two conversations share an id, or a block is damaged.
    """

    def make(part: Sequence[Conversation]) -> list[dict[str, object]]:
        return pair_rows(part, teacher=teacher, student=student, settings=settings, seed=seed, scorer=scorer)

    blocks = conversations_in_blocks(
        "pairs",
        conversations,
        make,
        settings=settings,
        seed=seed,
        models_fingerprint=models_fingerprint,
        prompts_per_block=prompts_per_block,
        folder=output_dir,
    )
    report = _report(blocks, conversations, settings=settings)
    write_pairs(output_dir / PAIRS_NAME, report.pairs)
    write_json(output_dir / REPORT_NAME, report.to_json())
    return report


def pair_rows(
    conversations: Sequence[Conversation],
    *,
    teacher: Generator,
    student: Generator,
    settings: PairsSettings,
    seed: int,
    scorer: Scorer | None = None,
) -> list[dict[str, object]]:
    """One row for every turn that is to give a pair: prompt, both answers, and why it was dropped (or None).

    The student is not asked where the teacher's side is already lost.
    """
    teacher = best_by_reward(teacher, settings.reward, scorer)
    turns = [_turns(conversation, settings=settings, seed=seed) for conversation in conversations]
    cut = [_until(conversation, max(own)) for conversation, own in zip(conversations, turns, strict=True)]
    answers = answer_conversations(teacher, cut, settings.teacher_sampling, seed=derived_seed(seed, "teacher"))
    rows: list[dict[str, object]] = []
    prompts: list[tuple[Message, ...]] = []
    for conversation, own_turns, own_answers in zip(conversations, turns, answers, strict=True):
        reasons = [refusal(answer, keep_unfinished=settings.keep_unfinished) for answer in own_answers]
        for turn in own_turns:
            is_lost_before = any(reason is not None for reason in reasons[:turn])
            texts = [answer.text for answer in own_answers[:turn]]
            prompt = with_answers(_until(conversation, turn), texts)
            rows.append(
                {
                    "id": f"{conversation.id}:{turn}",
                    "dropped": "context" if is_lost_before else reasons[turn] and f"teacher_{reasons[turn]}",
                    "prompt": [message.to_json() for message in prompt],
                    "chosen": own_answers[turn].text,
                    "rejected": None,
                }
            )
            prompts.append(prompt)
    _let_student_answer(rows, prompts, student=student, settings=settings, seed=derived_seed(seed, "student"))
    refuse_conflicts(rows, prompts, settings.reward, scorer)
    return rows


def _let_student_answer(
    rows: Sequence[dict[str, object]],
    prompts: Sequence[Sequence[Message]],
    *,
    student: Generator,
    settings: PairsSettings,
    seed: int,
) -> None:
    """Fills in `rejected`, and `dropped` where the student's answer gives no pair."""
    asked = [index for index, row in enumerate(rows) if row["dropped"] is None]
    replies = student.generate([prompts[index] for index in asked], settings.student_sampling, seed=seed)
    for index, reply in zip(asked, replies, strict=True):
        rows[index]["rejected"] = reply.text
        rows[index]["dropped"] = _student_refusal(reply, str(rows[index]["chosen"]), settings=settings)


def _student_refusal(reply: Generation, chosen: str, *, settings: PairsSettings) -> str | None:
    reason = refusal(reply, keep_unfinished=settings.keep_unfinished)
    if reason is not None:
        return f"student_{reason}"
    return "identical" if reply.text.strip() == chosen.strip() else None


def _turns(conversation: Conversation, *, settings: PairsSettings, seed: int) -> list[int]:
    """Indices of the user turns that are to give a pair."""
    num_turns = len(conversation.user_turns)
    if settings.turn == "all":
        return list(range(num_turns))
    if settings.turn == "last":
        return [num_turns - 1]
    return [random.Random(f"{seed}:{conversation.id}").randrange(num_turns)]


def _until(conversation: Conversation, turn: int) -> Conversation:
    """The questions up to and including user turn `turn`."""
    system = () if conversation.system is None else (conversation.system,)
    return Conversation(conversation.id, (*system, *conversation.user_turns[: turn + 1]), conversation.facts)


def _report(
    blocks: Iterable[Sequence[Mapping[str, object]]],
    conversations: Sequence[Conversation],
    *,
    settings: PairsSettings,
) -> PairsReport:
    """Goes through blocks until there are enough pairs, and counts."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    num_asked = 0
    with tracked("pairs, conversations", len(conversations)) as progress:
        for rows in blocks:
            for row in rows:
                num_asked += 1
                if row["dropped"] is not None:
                    dropped[str(row["dropped"])] += 1
                elif settings.max_pairs is not None and len(pairs) >= settings.max_pairs:
                    dropped["beyond_max_pairs"] += 1
                else:
                    pairs.append(_pair(row))
            progress.advance(len({str(row["id"]).rpartition(":")[0] for row in rows}), figures={"pairs": len(pairs)})
            if settings.max_pairs is not None and len(pairs) >= settings.max_pairs:
                break
    report = PairsReport(tuple(pairs), len(conversations), num_asked, {reason: dropped[reason] for reason in REASONS})
    log.info("%d pairs of %d turns; dropped: %s", len(pairs), num_asked, dict(dropped) or "none")
    return report


def _pair(row: Mapping[str, object]) -> PreferencePair:
    prompt = messages_from(row["prompt"], where=f"pair {row['id']}")
    return PreferencePair(str(row["id"]), prompt, str(row["chosen"]), str(row["rejected"]))
