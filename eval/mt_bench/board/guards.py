"""What warns of a judge: its kin among the judged, worthless answers it liked, answers that hold verdicts."""

import re
from collections.abc import Mapping, Sequence

from pydantic import Field

from distill.errors import DataError
from distill.settings import Settings
from eval.agreement import is_person
from eval.canaries import CANARY_KINDS, CanaryFigure, CanaryKind, answers_with_verdicts, canary_figure
from eval.families import Kinship, Relative, kinships
from eval.mt_bench.board.scores import question_means
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.strict import KeyVerdict

CANARY = re.compile(rf"canary-({'|'.join(CANARY_KINDS)})-of-(.+)", re.DOTALL)


class CanaryResult(Settings):
    """How one kind of worthless answers fared against a model's real ones."""

    of: str = Field(description="the model whose answers they stand in for")
    figure: CanaryFigure


def canary_model(kind: CanaryKind, *, of: str) -> str:
    """The model id that worthless answers are filed and judged under; tables leave such ids out."""
    return f"canary-{kind}-of-{of}"


def is_canary(model: str) -> bool:
    """Whether a model id is one that `canary_model` gives."""
    return CANARY.fullmatch(model) is not None


def canary_results(
    verdicts: Mapping[str, Sequence[KeyVerdict]], *, settings: BoardSettings
) -> tuple[list[CanaryResult], list[str]]:
    """Every canary judged beside the model it stands in for, and notes on those that tell nothing.

    Args:
        verdicts: of one judge, by model.
        settings: the seed.
    """
    results, notes = [], []
    for name in sorted(filter(is_canary, verdicts)):
        match = CANARY.fullmatch(name)
        assert match is not None
        kind, of = match.groups()
        try:
            figure = canary_figure(
                question_means(verdicts.get(of, ())), question_means(verdicts[name]), kind=kind, seed=settings.seed
            )
        except DataError as error:
            notes.append(f"Canaries of {of}: {error.what}.")
        else:
            results.append(CanaryResult(of=of, figure=figure))
    return results, notes


def kin_of(judge: str, models: Sequence[str], *, settings: BoardSettings) -> list[Kinship]:
    """What relates a judge to those it judged, and to the teacher; people are kin to none."""
    if is_person(judge):
        return []
    others = [model for model in models if model != settings.teacher]
    relatives = [Relative("model", model, family=settings.families.get(model)) for model in others]
    if settings.teacher is not None:
        relatives.insert(0, Relative("teacher", settings.teacher, family=settings.families.get(settings.teacher)))
    return kinships(Relative("judge", judge, family=settings.families.get(judge)), relatives)


def kin_warnings(kin: Sequence[Kinship]) -> list[str]:
    """A sentence for each kind of relation, with all that it holds with."""
    related: dict[str, list[str]] = {}
    for one in kin:
        if one.relation != "unknown":
            related.setdefault(one.told, []).append(f"the {one.part} {one.model}" if one.part != "model" else one.model)
    warnings = [
        f"judge {kin[0].judge} {told} {', '.join(others)}: judges are known to favour answers of their own kind, so"
        " confirm with another judge"
        for told, others in related.items()
    ]
    unknown = [relation.model for relation in kin if relation.relation == "unknown"]
    if unknown:
        warnings.append(
            f"whether judge {kin[0].judge} is kin to {', '.join(unknown)} is not known: their names tell no family"
        )
    return warnings


def verdicts_in_answers(answers: Mapping[str, Mapping[int, tuple[str, ...]]]) -> dict[str, tuple[int, ...]]:
    """Questions, by model, whose answers hold a verdict such as `[[10]]`; models without are left out."""
    found = {model: tuple(answers_with_verdicts(by_question)) for model, by_question in answers.items()}
    return {model: questions for model, questions in found.items() if questions}
