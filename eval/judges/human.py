"""People as judges: a blind sheet of pairs out, their labels in, as pair judgments in FastChat's schema.

Each pair is shown once, its sides shuffled by a seed, under a number that says nothing; which model stood where is in
a key file that stays here. A person sees one order only, so both games of a judgment hold the one vote, and the row
says so (`num_games` 1): figures of swap consistency leave people out. Each person is a judge, `human-NAME`.
"""

import csv
import io
import logging
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2

from distill.data import Message
from distill.errors import DataError, RecipeError
from distill.files import fingerprint, read_json, write_json, write_text
from distill.settings import Settings, validated
from eval.agreement import PERSON, Vote
from eval.mt_bench.judgments import GameWinner, PairJudgment, read_pair, stored_winner
from eval.mt_bench.matches import Match
from eval.mt_bench.verdicts import Verdict, Winner, verdict_text

log = logging.getLogger(__name__)

TEMPLATE = "human_sheet.html.jinja"
LABELS = ("left", "right", "tie")
PROMPT = "blind-sheet"
NAME = re.compile(r"\w[\w.+-]{0,63}")

PairKey = tuple[int, int, str, str]
"""Question, turn, both models in the order of their names."""


class KeyedItem(Settings):
    """Who stood where in one item of a sheet; `dialogues_sha256` is over what was shown."""

    question_id: int
    turn: int
    left: str
    right: str
    dialogues_sha256: str


class SheetKey(Settings):
    """The key to a sheet: never shown to who labels it."""

    format: Literal["distill-human-sheet-key"] = "distill-human-sheet-key"
    version: Literal[1] = 1
    seed: int
    items: dict[str, KeyedItem]


@dataclass(frozen=True)
class ShownItem:
    """One pair as it is shown; each side is a dialogue that ends in the judged answer."""

    id: str
    left: tuple[Message, ...]
    right: tuple[Message, ...]


def write_sheet(
    matches: Sequence[Match], sheet: Path, key: Path, *, seed: int, form: Literal["html", "csv"] = "html"
) -> int:
    """Writes a blind sheet and its key; returns how many pairs it shows.

    Args:
        matches: pairs; of the two orders of a pair only the first is used.
        sheet: for the person: a page without any outside address that saves labels as CSV, or a CSV with an empty
            column `label`.
        key: kept apart.
        seed: shuffles the pairs and the sides.
        form: of the sheet.

    Raises:
        RecipeError: there is no pair, or sheet and key are one file.
    """
    pairs = [match for match in matches if match.mode == "pair" and match.game == 1 and match.repeat == 0]
    if not pairs or sheet.resolve() == key.resolve():
        what = "there is no pair to label" if not pairs else f"sheet and key are both {sheet}"
        raise RecipeError(what, why="people compare two answers, blindly", fix="judge pairs; name two files")
    chance = random.Random(seed)
    chance.shuffle(pairs)
    shown, keyed = [], {}
    for number, match in enumerate(pairs, start=1):
        item, (left, right) = f"pair-{number:04d}", chance.sample((0, 1), 2)
        shown.append(ShownItem(item, match.conversation(left), match.conversation(right)))
        keyed[item] = KeyedItem(
            question_id=match.question.question_id,
            turn=match.turn,
            left=match.models[left],
            right=match.models[right],
            dialogues_sha256=_sha256(shown[-1]),
        )
    write_json(key, SheetKey(seed=seed, items=keyed).model_dump(mode="json"))
    write_text(sheet, _page(shown) if form == "html" else _table(shown))
    return len(pairs)


def judge_of(name: str) -> str:
    """The judge that a person is, `human-NAME`; it names the judgment file, so that two people have two.

    Raises:
        RecipeError: the name cannot stand in a file's name.
    """
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"a person is named {name!r:.80}",
            why="the name is part of a file's: letters, digits, and inside it . _ + -, 64 at most",
            fix="--judge-name ann",
        )
    return PERSON + name.removeprefix(PERSON)


def read_labels(labels: Path, key: Path, *, name: str, earlier: Path | None = None) -> list[PairJudgment]:
    """A person's labels as pair judgments, their judge being `human-NAME`, in order of question and turn.

    Items without a label are left out, and counted in the log.

    Args:
        labels: a CSV with the columns `item` and `label` (left, right or tie; empty: none), others unread.
        key: as `write_sheet` left it.
        name: of the person.
        earlier: what the same person said of other sheets, if it exists; it is part of the result.

    Raises:
        DataError: a file is missing, an item is unknown or labelled twice, a label is unknown, none is given, or one
            contradicts what was said of the same pair before; names file and line.
        RecipeError: the key is damaged, or the name cannot name a file.
    """
    judge = judge_of(name)
    items = validated(SheetKey, read_json(key), source=str(key)).items
    rows: dict[str, PairJudgment] = {}
    by_pair = {} if earlier is None or not earlier.exists() else _said_before(earlier, judge)
    for number, item, label in _labelled(labels):
        if item not in items:
            raise DataError(f"{labels}:{number}: item is {item!r:.60}", why=f"{key} has no such item")
        if item in rows:
            raise DataError(f"{labels}:{number}: item {item} is labelled twice", fix="keep one of the lines")
        if label not in LABELS:
            why = f"known are {', '.join(LABELS)}, or nothing"
            raise DataError(f"{labels}:{number}: label is {label!r:.60}", why=why, fix="correct the line")
        rows[item] = row = _judgment(items[item], label, judge=judge)
        before, where = by_pair.setdefault(_pair_of(row), (row, f"{labels}:{number}"))
        if before.games != row.games:
            raise DataError(
                f"{labels}:{number}: item {item} is labelled {label}, and {where} says otherwise of the same pair: "
                f"question {row.question_id}, turn {row.turn}, {row.model_1} and {row.model_2}",
                why=f"which of the two {name} meant is not known",
                fix="correct or delete one of the two lines; a second opinion needs another --judge-name",
            )
    if not rows:
        raise DataError(f"{labels} holds no label", why="there is nothing to read", fix="fill in the sheet first")
    if len(rows) < len(items):
        log.warning("%s: %d of %d pairs have no label", labels, len(items) - len(rows), len(items))
    return [by_pair[pair][0] for pair in sorted(by_pair)]


def human_votes(rows: Iterable[PairJudgment]) -> list[Vote]:
    """People's judgments as votes, for the figures of agreement."""
    winners = {"model_1": "model_a", "model_2": "model_b", "tie": "tie"}
    return [
        Vote(row.judge_name, row.model_1, row.model_2, row.question_id, row.turn or 1, winners[row.games[0]])  # type: ignore[arg-type]
        for row in rows
    ]


def _pair_of(row: PairJudgment) -> PairKey:
    return row.question_id, row.turn or 1, row.model_1, row.model_2


def _said_before(path: Path, judge: str) -> dict[PairKey, tuple[PairJudgment, str]]:
    """A person's earlier judgments with file and line, by pair."""
    found = {_pair_of(row): (row, f"{path}:{number}") for number, row in enumerate(read_pair(path), start=1)}
    for row, where in found.values():
        if row.judge_name != judge:
            raise DataError(
                f"{where} is a judgment of {row.judge_name or 'nobody'}",
                why=f"the file is {judge}'s, and would be written again",
                fix="move it away, or give another --judge-name",
            )
    return found


def _judgment(item: KeyedItem, label: str, *, judge: str) -> PairJudgment:
    model_1, model_2 = sorted((item.left, item.right))
    better: Winner = (
        "tie" if label == "tie" else "A" if (item.left if label == "left" else item.right) == model_1 else "B"
    )
    swapped: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}
    games = (Verdict("ok", "label", None, winner=better), Verdict("ok", "label", None, winner=swapped[better]))
    winners: tuple[GameWinner, GameWinner] = (stored_winner(games[0], game=1), stored_winner(games[1], game=2))
    return PairJudgment(
        question_id=item.question_id,
        model_1=model_1,
        model_2=model_2,
        g1_winner=winners[0],
        g2_winner=winners[1],
        judge=(judge, PROMPT),
        g1_user_prompt=None,
        g1_judgment=verdict_text(games[0]),
        g2_user_prompt=None,
        g2_judgment=verdict_text(games[1]),
        turn=item.turn,
        tstamp=None,
        extra={"num_games": 1, "shown_left": item.left, "dialogues_sha256": item.dialogues_sha256},
    )


def _labelled(path: Path) -> Iterable[tuple[int, str, str]]:
    """Line, item and label of each labelled row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", fix="save it as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"item", "label"} <= set(reader.fieldnames or ()):
        raise DataError(
            f"{path}:1 names the columns {', '.join(reader.fieldnames or ()) or 'none'}",
            why="item and label are needed, separated by commas",
            fix="save the sheet as CSV with commas, its first line as it was",
        )
    for row in reader:
        label = (row["label"] or "").strip().lower()
        if label:
            yield reader.line_num, (row["item"] or "").strip(), label


def _page(items: Sequence[ShownItem]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(TEMPLATE).render(items=items, labels=LABELS)


def _table(items: Sequence[ShownItem]) -> str:
    handle = io.StringIO(newline="")
    writer = csv.writer(handle)
    writer.writerow(["item", "left", "right", "label"])
    for item in items:
        writer.writerow([item.id, _cell(item.left), _cell(item.right), ""])
    return handle.getvalue()


def _cell(messages: Sequence[Message]) -> str:
    """A dialogue as text; it begins with a role, so that no spreadsheet takes it for a formula."""
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _sha256(item: ShownItem) -> str:
    return fingerprint([[message.to_json() for message in side] for side in (item.left, item.right)])
