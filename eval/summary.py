"""From the figures of each model to the result table: intervals, preference rates, the paired comparison."""

from collections.abc import Mapping, Sequence

from eval.measured import QUESTIONS, TEST, MeasuredModel
from eval.preference_rate import accuracy_difference, preference_rate
from eval.results import Comparison, ResultRow, ResultTable
from eval.scores import Interval


def result_table(
    models: Sequence[MeasuredModel], *, seed: int, kl_to_student_nats: Mapping[str, float] | None = None
) -> ResultTable:
    """One row a model, the teacher's first; students are compared pairwise, each with the one before it.

    The preference rate is taken on the two-turn questions where there are some, else on the test conversations.

    Args:
        models: figures of each.
        seed: of the resampling.
        kl_to_student_nats: by the name of an export, its KL to the student it was made from.
    """
    teacher = next((model for model in models if model.kind == "teacher"), None)
    own = kl_to_student_nats or {}
    rows = tuple(_row(model, teacher, seed=seed, kl_to_student_nats=own.get(model.name)) for model in models)
    students = [model for model in models if model.kind == "student" and model.sets[TEST].right]
    pairs = list(zip(students[1:], students, strict=False))
    return ResultTable(
        rows=rows,
        comparisons=tuple(_comparison(after, before, seed=seed) for after, before in pairs),
        notes=tuple(_notes(models)),
    )


def _row(
    model: MeasuredModel, teacher: MeasuredModel | None, *, seed: int, kl_to_student_nats: float | None
) -> ResultRow:
    test = model.sets[TEST]
    return ResultRow(
        model=model.name,
        kind=model.kind,
        num_parameters=model.num_parameters,
        size_bytes=model.size_bytes,
        accuracy=test.accuracy,
        personality_accuracy=test.strict_accuracy,
        preference_rate=None if teacher is None or model is teacher else _preference(model, teacher, seed=seed),
        kl_to_teacher_nats=None if model is teacher else model.kl_to_teacher_nats,
        kl_standard_error_nats=None if model is teacher else model.kl_standard_error_nats,
        kl_to_student_nats=kl_to_student_nats,
        tokens_per_s=model.tokens_per_s,
    )


def _preference(model: MeasuredModel, teacher: MeasuredModel, *, seed: int) -> Interval | None:
    name = QUESTIONS if QUESTIONS in model.sets else TEST
    own, other = model.sets[name].right, teacher.sets[name].right
    return preference_rate(own, other[: len(own)], seed=seed).rate if own else None


def _comparison(after: MeasuredModel, before: MeasuredModel, *, seed: int) -> Comparison:
    first, second = after.sets[TEST].right, before.sets[TEST].right
    return Comparison.of(accuracy_difference(first, second, seed=seed), first=after.name, second=before.name)


def _notes(models: Sequence[MeasuredModel]) -> list[str]:
    notes = []
    num_asked = max(len(model.sets[TEST].answers) for model in models)
    for model in models:
        if len(model.sets[TEST].answers) < num_asked:
            notes.append(
                f"{model.name}: measured on the first {len(model.sets[TEST].answers)} of {num_asked} test conversations"
            )
        for name, answered in model.sets.items():
            if answered.share_unfinished:
                share = 100 * answered.share_unfinished
                notes.append(f"{model.name}, {name}: {share:.1f} % of the answers were cut at the length limit")
            if answered.num_unchecked:
                notes.append(f"{model.name}, {name}: {answered.num_unchecked} conversations could not be checked")
    return notes
