"""Every question with the models' answers, the judges' words and verdicts, and by how much each model lost to each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

from pydantic import Field

from distill.settings import Settings
from eval.mt_bench.board.benchmark import Benchmark
from eval.mt_bench.judgments import PairJudgment, SingleJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.strict_pair import pair_verdicts
from eval.mt_bench.verdicts import Verdict, read_score, read_winner

Status = Literal["ok", "ambiguous", "unscored", "missing"]


class BrowsedAnswer(Settings):
    """A model's text in a turn; None where there is none in the files."""

    model: str
    text: str | None


class BrowsedScore(Settings):
    """One reply of a judge to one answer."""

    judge: str
    model: str
    status: Status
    rule: str = Field(description="which rule of the reading found the verdict, or why none did")
    score: float | None
    reply: str | None
    repeat: int = Field(0, description="how often the same was asked before")


class BrowsedGame(Settings):
    """One order of a pair."""

    slot_a: str
    slot_b: str
    winner: str | None = Field(description="a model, `tie`, or None")
    status: Status
    rule: str
    reply: str | None


class BrowsedPair(Settings):
    """Two answers compared by a judge in both orders."""

    judge: str
    first: str
    second: str
    winner: str | None = Field(description="a model; `tie`, also where the orders disagree; None without verdict")
    is_consistent: bool
    games: tuple[BrowsedGame, BrowsedGame]


class BrowsedTurn(Settings):
    """One turn of a question."""

    turn: int
    question: str
    reference: str | None
    answers: tuple[BrowsedAnswer, ...]
    scores: tuple[BrowsedScore, ...]
    pairs: tuple[BrowsedPair, ...]


class Loss(Settings):
    """How far `model` stands below `against` on a question: in points, or in comparisons lost less won, by turn."""

    model: str
    against: str
    loss: float


class BrowsedQuestion(Settings):
    """A question with everything that was said to it."""

    question_id: int
    category: str
    turns: tuple[BrowsedTurn, ...]
    losses: tuple[Loss, ...] = Field(description="of every two models once; the other way round it has the other sign")


def browsed_questions(benchmark: Benchmark, *, models: Sequence[str]) -> list[BrowsedQuestion]:
    """The questions in the file's order.

    Args:
        benchmark: what was read.
        models: whose answers and verdicts, in the order in which they stand.
    """
    single: dict[tuple[int, int], list[SingleJudgment]] = defaultdict(list)
    pair: dict[tuple[int, int], list[PairJudgment]] = defaultdict(list)
    for given in benchmark.single.values():
        for row in given:
            if row.model in models:
                single[row.question_id, row.turn].append(row)
    for compared in benchmark.pair.values():
        for match in compared:
            if match.model_1 in models and match.model_2 in models:
                pair[match.question_id, match.turn or 1].append(match)
    browsed = []
    for question in benchmark.questions:
        turns = [
            _turn(
                benchmark,
                question,
                number,
                single=single[question.question_id, number],
                pair=pair[question.question_id, number],
                models=models,
            )
            for number in range(1, len(question.turns) + 1)
        ]
        browsed.append(
            BrowsedQuestion(
                question_id=question.question_id,
                category=question.category,
                turns=tuple(turns),
                losses=tuple(_losses(turns, models)),
            )
        )
    return browsed


def loss_of(question: BrowsedQuestion, model: str, against: str) -> float | None:
    """How far a model stands below another on a question; None where nothing compares them."""
    for one in question.losses:
        if (one.model, one.against) == (model, against):
            return one.loss
        if (one.against, one.model) == (model, against):
            return -one.loss
    return None


def _turn(
    benchmark: Benchmark,
    question: Question,
    turn: int,
    *,
    single: Sequence[SingleJudgment],
    pair: Sequence[PairJudgment],
    models: Sequence[str],
) -> BrowsedTurn:
    references = benchmark.references.get(question.question_id, ())
    answers = []
    for model in models:
        texts = benchmark.answers.get(model, {}).get(question.question_id, ())
        answers.append(BrowsedAnswer(model=model, text=_readable(texts[turn - 1] if len(texts) >= turn else None)))
    return BrowsedTurn(
        turn=turn,
        question=question.turns[turn - 1],
        reference=references[turn - 1] if len(references) >= turn else None,
        answers=tuple(answers),
        scores=tuple(_scores(benchmark, single, models)),
        pairs=tuple(_pair(row, benchmark.output_formats) for row in sorted(pair, key=lambda r: r.judge_name)),
    )


def _scores(benchmark: Benchmark, rows: Sequence[SingleJudgment], models: Sequence[str]) -> list[BrowsedScore]:
    """Every reply; where a judge that scored the model elsewhere has none here, that it is missing."""
    by_key: dict[tuple[str, str], list[SingleJudgment]] = defaultdict(list)
    for row in rows:
        by_key[row.model, row.judge_name].append(row)
    found = []
    for model in models:
        for judge, everything in benchmark.single.items():
            given = by_key.get((model, judge), [])
            if not given and any(row.model == model for row in everything):
                found.append(
                    BrowsedScore(judge=judge, model=model, status="missing", rule="no row", score=None, reply=None)
                )
            for repeat, row in enumerate(given):
                verdict = _read(row.judgment)
                found.append(
                    BrowsedScore(
                        judge=judge,
                        model=model,
                        status=verdict.status,
                        rule=verdict.rule,
                        score=verdict.score,
                        reply=_readable(row.judgment),
                        repeat=repeat,
                    )
                )
    return found


def _readable(text: str | None) -> str | None:
    """Text that can be written: halves of letters, which broken tokenizers leave behind, become question marks."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _read(text: str | None) -> Verdict:
    return Verdict("unscored", "no_text", None) if text is None else read_score(text)


def _pair(row: PairJudgment, output_formats: Mapping[str, str]) -> BrowsedPair:
    """A row in the order of its models' names; `pair_verdicts` reads it as the tables do."""
    verdict = pair_verdicts([row], output_formats=output_formats)[0]
    names = {"model_1": verdict.first, "model_2": verdict.second, "tie": "tie", "error": None}
    sides = {"first": verdict.first, "second": verdict.second, "tie": "tie", None: None}
    replies = (row.g1_judgment, row.g2_judgment)
    if row.model_1 != verdict.first:
        replies = (replies[1], replies[0])
    slots = ((verdict.first, verdict.second), (verdict.second, verdict.first))
    games = []
    for (slot_a, slot_b), game, reply in zip(slots, verdict.games, replies, strict=True):
        status, rule = _game_status(row, reply, output_formats)
        games.append(
            BrowsedGame(
                slot_a=slot_a, slot_b=slot_b, winner=names[game], status=status, rule=rule, reply=_readable(reply)
            )
        )
    return BrowsedPair(
        judge=row.judge_name,
        first=verdict.first,
        second=verdict.second,
        winner=sides[verdict.winner],
        is_consistent=verdict.is_consistent,
        games=(games[0], games[1]),
    )


def _game_status(row: PairJudgment, reply: str | None, output_formats: Mapping[str, str]) -> tuple[Status, str]:
    if reply is None:
        return "unscored", "no_text"
    if row.m1_score is not None or row.m2_score is not None:
        verdict = read_score(reply)
    else:
        prompt = row.judge[1] if row.judge and len(row.judge) > 1 else ""
        verdict = read_winner(reply, output_format=output_formats.get(prompt, "[[A]]"))
    return verdict.status, verdict.rule


def _losses(turns: Sequence[BrowsedTurn], models: Sequence[str]) -> list[Loss]:
    found = []
    for model, against in combinations(models, 2):
        values = [value for turn in turns for value in _points_lost(turn, model, against)]
        values = values or [value for turn in turns for value in _games_lost(turn, model, against)]
        if values:
            found.append(Loss(model=model, against=against, loss=sum(values) / len(values)))
    return found


def _points_lost(turn: BrowsedTurn, model: str, against: str) -> list[float]:
    """Points by which a model stands below another, for each judge that scored both."""
    by_judge: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for given in turn.scores:
        if given.score is not None:
            by_judge[given.judge][given.model].append(given.score)
    return [
        sum(scores[against]) / len(scores[against]) - sum(scores[model]) / len(scores[model])
        for scores in by_judge.values()
        if model in scores and against in scores
    ]


def _games_lost(turn: BrowsedTurn, model: str, against: str) -> list[float]:
    """1 for a comparison lost, -1 for one won, 0 for a tie."""
    outcomes = {model: -1.0, against: 1.0, "tie": 0.0}
    return [
        outcomes[pair.winner]
        for pair in turn.pairs
        if pair.winner is not None and {pair.first, pair.second} == {model, against}
    ]
