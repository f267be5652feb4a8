"""The teacher's answers to whole conversations, for the student's supervised fine-tuning."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.data import Conversation, Message, write_conversations
from distill.data.records import messages_from
from distill.decoding import Generation, Generator, SamplingSettings, answer_conversations
from distill.errors import DataError
from distill.files import write_json
from distill.preference.blocks import (
    PROMPTS_PER_BLOCK,
    REPORT_NAME,
    conversations_in_blocks,
    derived_seed,
)
from distill.progress import tracked

log = logging.getLogger(__name__)

CONVERSATIONS_NAME = "conversations.jsonl"


def teacher_answers(
    conversations: Sequence[Conversation],
    *,
    teacher: Generator,
    settings: SamplingSettings,
    seed: int,
    output_dir: Path,
    models_fingerprint: str = "",
    prompts_per_block: int = PROMPTS_PER_BLOCK,
) -> list[Conversation]:
    """Answers every user turn, each with the teacher's own earlier answers before it.

    A conversation with an empty or unfinished answer (it hit `max_new_tokens`) is dropped and counted in
    `report.json`: later turns stand on it, and the student would learn not to stop. Answers that the
    conversations hold are not used. A run that is cut off goes on at the block it was at.

    Args:
        conversations: their system messages and user turns are the questions; ids are unique.
        teacher: what answers.
        settings: how it answers.
        seed: of the draws.
        output_dir: receives blocks, `conversations.jsonl` and, last, `report.json`.
        models_fingerprint: of the teacher; blocks made with another are not used.
        prompts_per_block: conversations that a cut-off loses at most.

    Raises:
        DataError: two conversations share an id.
    """
    by_id = {conversation.id: conversation for conversation in conversations}
    answered: list[Conversation] = []
    dropped: Counter[str] = Counter()

    def make(part: Sequence[Conversation]) -> list[Mapping[str, object]]:
        replies = answer_conversations(teacher, part, settings, seed=derived_seed(seed, "teacher"))
        return [_row(conversation, own) for conversation, own in zip(part, replies, strict=True)]

    blocks = conversations_in_blocks(
        "teacher answers",
        conversations,
        make,
        settings=settings,
        seed=seed,
        models_fingerprint=models_fingerprint,
        prompts_per_block=prompts_per_block,
        folder=output_dir,
    )
    with tracked("teacher answers, conversations", len(conversations)) as progress:
        for rows in blocks:
            for row in rows:
                if row["dropped"] is None:
                    answered.append(_conversation(row, by_id))
                else:
                    dropped[str(row["dropped"])] += 1
            progress.advance(len(rows))
    write_conversations(output_dir / CONVERSATIONS_NAME, answered)
    report = {
        "num_conversations": len(conversations),
        "num_answered": len(answered),
        "num_empty_dropped": dropped["empty"],
        "num_unfinished_dropped": dropped["unfinished"],
    }
    write_json(output_dir / REPORT_NAME, report)
    log.info("teacher answered %d of %d conversations %s", len(answered), len(conversations), dict(dropped) or "")
    return answered


def refusal(answer: Generation, *, keep_unfinished: bool) -> str | None:
    """Why an answer cannot be learned from, or None."""
    if not answer.text.strip():
        return "empty"
    if answer.finish_reason == "length" and not keep_unfinished:
        return "unfinished"
    return None


def with_answers(conversation: Conversation, answers: Sequence[str]) -> tuple[Message, ...]:
    """System message and user turns, each of the first turns followed by its answer."""
    messages = [] if conversation.system is None else [conversation.system]
    for turn, user in enumerate(conversation.user_turns):
        messages.append(user)
        if turn < len(answers):
            messages.append(Message("assistant", answers[turn]))
    return tuple(messages)


def _row(conversation: Conversation, answers: Sequence[Generation]) -> dict[str, object]:
    reasons = [refusal(answer, keep_unfinished=False) for answer in answers]
    messages = with_answers(conversation, [answer.text for answer in answers])
    return {
        "id": conversation.id,
        "dropped": next((reason for reason in reasons if reason is not None), None),
        "messages": [message.to_json() for message in messages],
    }


def _conversation(row: Mapping[str, object], by_id: Mapping[str, Conversation]) -> Conversation:
    asked = by_id.get(str(row["id"]))
    if asked is None:
        raise DataError(
            f"a block holds conversation {row['id']!r}, which was not asked", fix="delete the blocks folder"
        )
    return Conversation(asked.id, messages_from(row["messages"], where=f"conversation {asked.id}"), asked.facts)
