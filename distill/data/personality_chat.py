"""Reads Microsoft's Personality Chat: five .qna files, one a personality, that answer the same questions.

The files stand in https://github.com/microsoft/botframework-cli (MIT), packages/qnamaker/docs/qnaFormat/<language>. A
block of a file is a list of ways to ask and one answer; questions with the same five answers make a *scenario*.
Known answers make an objective test: an answer to a held-out question is right when it is the scenario's.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from distill.data.records import Conversation, Message
from distill.data.splits import Group, normalised
from distill.errors import DataError

log = logging.getLogger(__name__)

PERSONALITIES = ("caring", "enthusiastic", "friendly", "professional", "witty")
_FOLDERS = ("", "packages/qnamaker/docs/qnaFormat/english", "raw/english", "english")


def personality_chat_strata(path: Path) -> list[list[Group]]:
    """The questions of each scenario; a group is one question asked of the five personalities.

    Ways to ask that differ only in case and punctuation form one group. A question that two scenarios share, that
    has two answers, or that a personality does not answer is dropped and counted in the log.

    Raises:
        DataError: the files are missing, or a line is wrong; names file and line.
    """
    folder = _folder(path)
    answers: dict[str, dict[str, str]] = {}
    ambiguous: set[str] = set()
    for personality in PERSONALITIES:
        for question, answer in _read_qna(folder / f"qna_chitchat_{personality}.qna"):
            known = answers.setdefault(question, {})
            if known.setdefault(personality, answer) != answer:
                ambiguous.add(question)
    incomplete = {question for question, known in answers.items() if len(known) < len(PERSONALITIES)}
    scenarios: dict[tuple[str, ...], list[str]] = {}
    for question, known in answers.items():
        if question not in ambiguous and question not in incomplete:
            scenarios.setdefault(tuple(known[p] for p in PERSONALITIES), []).append(question)
    strata = _groups(scenarios)
    num_kept = sum(len(group.conversations) for stratum in strata for group in stratum) // len(PERSONALITIES)
    log.info(
        "%s: %d questions in %d scenarios; dropped %d with two answers, %d without all answers, %d of two scenarios",
        folder,
        num_kept,
        len(strata),
        len(ambiguous),
        len(incomplete),
        len(answers) - len(ambiguous | incomplete) - num_kept,
    )
    return strata


def _groups(scenarios: Mapping[tuple[str, ...], list[str]]) -> list[list[Group]]:
    """One stratum a scenario, without the questions that two scenarios share."""
    owners: dict[str, set[int]] = {}
    for number, questions in enumerate(scenarios.values()):
        for question in questions:
            owners.setdefault(normalised(question), set()).add(number)
    strata = []
    for number, (answers, questions) in enumerate(scenarios.items()):
        members: dict[str, list[Conversation]] = {}
        for question in questions:
            key = normalised(question)
            if len(owners[key]) == 1:
                members.setdefault(key, []).extend(_conversations(question, number, answers))
        strata.append([Group(key, tuple(conversations)) for key, conversations in members.items()])
    return strata


def _conversations(question: str, scenario: int, answers: tuple[str, ...]) -> Iterator[Conversation]:
    """The question asked of each personality."""
    by_personality = dict(zip(PERSONALITIES, answers, strict=True))
    tag = hashlib.sha256(question.encode()).hexdigest()[:12]
    for personality, answer in by_personality.items():
        article = "an" if personality[0] in "aeiou" else "a"
        messages = (
            Message("system", f"You are {article} {personality} assistant."),
            Message("user", question),
            Message("assistant", answer),
        )
        facts = {
            "checker": "known-answer",
            "scenario": scenario,
            "personality": personality,
            "answers": by_personality,
        }
        yield Conversation(f"personality-chat-{tag}-{personality}", messages, facts)


def _folder(path: Path) -> Path:
    """The folder of the five files: `path` itself, or where the repository keeps the English ones."""
    names = [f"qna_chitchat_{personality}.qna" for personality in PERSONALITIES]
    for inner in _FOLDERS:
        if all((path / inner / name).is_file() for name in names):
            return path / inner
    raise DataError(
        f"data.path is {path}, and the five files qna_chitchat_*.qna are not all there",
        why=f"looked in it and in its {', '.join(folder for folder in _FOLDERS if folder)}",
        fix="git clone https://github.com/microsoft/botframework-cli and set data.path to that folder",
    )


def _read_qna(path: Path) -> Iterator[tuple[str, str]]:
    """Yields each (question, answer) of a file."""
    questions: list[str] = []
    answer_lines: list[str] = []
    state = "between"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", fix="download the file again") from error
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if state == "answer" and line.startswith("```"):
            answer = "\n".join(answer_lines).strip()
            if not questions or not answer:
                raise DataError(f"{where}: the block has no {'answer' if questions else 'question'}")
            yield from ((question, answer) for question in questions)
            questions, answer_lines, state = [], [], "between"
        elif state == "answer":
            answer_lines.append(line)
        elif line.startswith("```"):
            state = "answer"
        elif line.startswith("# ?"):
            if questions:
                raise DataError(f"{where}: a new question before the answer of the last block")
            questions, state = [line[3:].strip()], "questions"
        elif line.startswith("**Filters"):
            state = "filters"
        elif line.startswith("- "):
            if state == "between":
                raise DataError(f"{where} is {line!r:.80}", why="a way to ask stands below a line that begins with # ?")
            if state == "questions":
                questions.append(line[2:].strip())
        elif line.strip() and not line.startswith((">", "#")):
            raise DataError(f"{where} is {line!r:.80}", why="the line is no part of the .qna format")
    if questions:
        raise DataError(f"{path} ends inside a block", why="its last question has no answer", fix="download it again")
