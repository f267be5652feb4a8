"""Everything a judged benchmark says, in one document: scores, comparisons, agreement and what the judges lean to.

It is what `distill eval show --json` prints. Every figure comes from the judges' texts by the strict reading; what has
no verdict is counted and bounded, and never dropped.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from distill.settings import Settings
from eval.agreement import is_person
from eval.bias import LengthPreference, PositionBias, length_preference, position_bias
from eval.bradley_terry import Strengths
from eval.families import Kinship
from eval.mt_bench.board.benchmark import Benchmark, prompt_sets_of
from eval.mt_bench.board.guards import CanaryResult, canary_results, is_canary, kin_of, verdicts_in_answers
from eval.mt_bench.board.pairs import (
    Matchup,
    ModelRecord,
    judged_pairs_of,
    matchups,
    model_records,
    strengths_of,
    verdicts_of,
)
from eval.mt_bench.board.panel import JudgeAgreement, PanelAgreement, score_agreement, winner_agreement
from eval.mt_bench.board.scores import ModelScore, ScoreDifference, model_scores, score_differences
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.prompt_sets import Mode
from eval.mt_bench.repeats import SameWinner, same_winner
from eval.mt_bench.strict import KeyVerdict, key_verdicts
from eval.mt_bench.strict_pair import PairVerdict
from eval.scores import Interval


class Protocol(Settings):
    """How figures were made; figures of different keys are not comparable."""

    key: str = Field(description="the parts below in one line")
    benchmark: str
    mode: Mode
    judge: str
    prompts: str
    references: str = Field(description="name of the set the judge was shown; `none`; or `not recorded`")


class SingleBoard(Settings):
    """One judge's single scores."""

    protocol: Protocol
    scores: tuple[ModelScore, ...] = Field(description="best mean first")
    differences: tuple[ScoreDifference, ...] = Field(description="every two models, the better first")
    canaries: tuple[CanaryResult, ...]
    kin: tuple[Kinship, ...]
    notes: tuple[str, ...]
    provenance: dict[str, object]


class PairBoard(Settings):
    """One judge's pairwise verdicts."""

    protocol: Protocol
    baseline: str | None
    records: tuple[ModelRecord, ...] = Field(description="best rate first")
    matchups: tuple[Matchup, ...]
    strengths: Strengths | None = Field(description="Bradley-Terry, where at least three models met")
    elo: dict[str, Interval] = Field(description="the same on Elo's scale, the baseline at 1000")
    position: PositionBias | None = Field(description="of people, who see one order only, None")
    lengths: LengthPreference | None
    repeats: SameWinner | None = Field(None, description="where the judge was asked several times")
    kin: tuple[Kinship, ...]
    notes: tuple[str, ...]
    provenance: dict[str, object]


class AnswerLengths(Settings):
    """How long a model's answers are, in characters."""

    model: str
    num_answers: int
    num_empty: int
    mean: float
    by_turn: dict[int, float]


class Scoreboard(Settings):
    """All judges of a benchmark."""

    format: Literal["distill-scoreboard"] = "distill-scoreboard"
    version: Literal[1] = 1
    benchmark: str
    num_questions: int
    num_turns: int
    categories: dict[str, int] = Field(description="questions in each")
    models: tuple[str, ...]
    settings: BoardSettings
    lengths: tuple[AnswerLengths, ...]
    single: tuple[SingleBoard, ...] = Field(description="one for each judge")
    pair: tuple[PairBoard, ...] = Field(description="one for each judge")
    agreement: tuple[JudgeAgreement, ...]
    panels: tuple[PanelAgreement, ...]
    verdicts_in_answers: dict[str, tuple[int, ...]] = Field(
        description="by model, questions whose answers hold a verdict such as [[10]], which a judge may repeat"
    )

    @property
    def judged(self) -> tuple[SingleBoard | PairBoard, ...]:
        """Both kinds of boards."""
        return (*self.single, *self.pair)

    @property
    def judges(self) -> list[str]:
        """Every judge once."""
        return list(dict.fromkeys(one.protocol.judge for one in self.judged))


def scoreboard(benchmark: Benchmark, *, settings: BoardSettings | None = None) -> Scoreboard:
    """Computes everything from a benchmark's files.

    Args:
        benchmark: what was read.
        settings: seed, resamples, baseline and what else the user asked for.

    Raises:
        DataError: one verdict's key holds judgments of different answers, a judged question is not among the
            questions, or nothing was compared with the baseline.
    """
    settings = settings or BoardSettings()
    verdicts = {judge: key_verdicts(rows) for judge, rows in benchmark.single.items()}
    winners = {
        judge: verdicts_of(rows, baseline=settings.baseline, output_formats=benchmark.output_formats)
        for judge, rows in benchmark.pair.items()
    }
    agreement, score_panel = score_agreement(verdicts, settings=settings)
    pair_agreement, winner_panel = winner_agreement(winners)
    single = tuple(_single_board(benchmark, judge, given, settings) for judge, given in verdicts.items())
    pair = tuple(_pair_board(benchmark, judge, given, settings) for judge, given in winners.items())
    ranked = [score.model for board in single for score in board.scores]
    ranked += [record.model for board in pair for record in board.records]
    ranked += sorted({name for given in winners.values() for v in given for name in (v.first, v.second)})
    models = tuple(name for name in dict.fromkeys(ranked) if not is_canary(name))
    names = [question.category for question in benchmark.questions]
    return Scoreboard(
        benchmark=benchmark.name,
        num_questions=len(names),
        num_turns=sum(len(question.turns) for question in benchmark.questions),
        categories={name: names.count(name) for name in sorted(set(names))},
        models=models,
        settings=settings,
        lengths=tuple(_lengths(model, benchmark.answers[model]) for model in models if model in benchmark.answers),
        single=single,
        pair=pair,
        agreement=(*agreement, *pair_agreement),
        panels=tuple(panel for panel in (score_panel, winner_panel) if panel is not None),
        verdicts_in_answers=verdicts_in_answers({m: benchmark.answers[m] for m in models if m in benchmark.answers}),
    )


def _single_board(
    benchmark: Benchmark, judge: str, verdicts: Sequence[KeyVerdict], settings: BoardSettings
) -> SingleBoard:
    rows = [row for row in benchmark.single[judge] if not is_canary(row.model)]
    by_model: dict[str, list[KeyVerdict]] = defaultdict(list)
    for verdict in verdicts:
        by_model[verdict.model].append(verdict)
    scores = model_scores(
        rows,
        questions=benchmark.questions,
        characters=benchmark.characters(),
        settings=settings,
        repeats=benchmark.repeats.get(("single", judge), ()),
    )
    models = [score.model for score in scores]
    differences, notes = score_differences(rows, models=models, settings=settings)
    canaries, canary_notes = canary_results(by_model, settings=settings)
    return SingleBoard(
        protocol=_protocol(benchmark, "single", judge),
        scores=tuple(scores),
        differences=tuple(differences),
        canaries=tuple(canaries),
        kin=tuple(kin_of(judge, models, settings=settings)),
        notes=(*notes, *canary_notes),
        provenance=dict(benchmark.provenance.get(("single", judge), {})),
    )


def _pair_board(
    benchmark: Benchmark, judge: str, verdicts: Sequence[PairVerdict], settings: BoardSettings
) -> PairBoard:
    rows = benchmark.pair[judge]
    pairs = judged_pairs_of(verdicts, characters=benchmark.characters())
    records = model_records(
        rows,
        pairs,
        questions=benchmark.questions,
        output_formats=benchmark.output_formats,
        settings=settings,
    )
    models = [record.model for record in records]
    if settings.baseline is not None:
        models.append(settings.baseline)
    categories = {question.question_id: question.category for question in benchmark.questions}
    found, notes = matchups(pairs, models=models, categories=categories, settings=settings)
    strengths, why_none = strengths_of(pairs, baseline=settings.baseline or models[-1], settings=settings)
    is_scored = any(pair.is_scored for pair in pairs)
    bootstrap = {"seed": settings.seed, "num_resamples": settings.num_resamples}
    return PairBoard(
        protocol=_protocol(benchmark, "pair", judge),
        baseline=settings.baseline,
        records=tuple(records),
        matchups=tuple(found),
        strengths=strengths,
        elo=strengths.elo() if strengths is not None else {},
        position=position_bias(pairs, **bootstrap) if is_scored and not is_person(judge) else None,
        lengths=length_preference(pairs, **bootstrap) if is_scored else None,
        repeats=same_winner(benchmark.repeats.get(("pair", judge), ()), **bootstrap),
        kin=tuple(kin_of(judge, models, settings=settings)),
        notes=(*notes, *why_none),
        provenance=dict(benchmark.provenance.get(("pair", judge), {})),
    )


def _protocol(benchmark: Benchmark, mode: Mode, judge: str) -> Protocol:
    rows = benchmark.single[judge] if mode == "single" else benchmark.pair[judge]
    prompts, references = prompt_sets_of(rows), benchmark.reference_set(mode, judge)
    return Protocol(
        key=f"{benchmark.name} | {mode} | judge {judge} | prompts {prompts} | references {references} | strict reading",
        benchmark=benchmark.name,
        mode=mode,
        judge=judge,
        prompts=prompts,
        references=references,
    )


def _lengths(model: str, answers: Mapping[int, tuple[str, ...]]) -> AnswerLengths:
    by_turn: dict[int, list[int]] = defaultdict(list)
    for texts in answers.values():
        for turn, text in enumerate(texts, start=1):
            by_turn[turn].append(len(text))
    lengths = [length for group in by_turn.values() for length in group]
    return AnswerLengths(
        model=model,
        num_answers=len(lengths),
        num_empty=sum(not text.strip() for texts in answers.values() for text in texts),
        mean=math.fsum(lengths) / len(lengths) if lengths else 0.0,
        by_turn={turn: math.fsum(group) / len(group) for turn, group in sorted(by_turn.items())},
    )
