from eval.measured import AnsweredSet, MeasuredModel
from eval.scores import mean_interval
from eval.summary import result_table

Turns = list[tuple[bool, ...]]


def answered(right: Turns, *, unfinished: float = 0.0) -> AnsweredSet:
    clusters = [[float(turn) for turn in row] for row in right]
    return AnsweredSet(
        answers=tuple(tuple("x" for _ in row) for row in right),
        accuracy=mean_interval(clusters, seed=0) if right else None,
        strict_accuracy=None,
        accuracy_by_category={},
        right=tuple(right),
        share_unfinished=unfinished,
        mean_tokens=4.0,
        num_unchecked=0,
    )


def model(name: str, kind: str, **sets: AnsweredSet) -> MeasuredModel:
    return MeasuredModel(
        key="k",
        name=name,
        kind=kind,
        num_parameters=10,
        size_bytes=20,
        sets=sets,
        kl_to_teacher_nats=0.1,
        kl_standard_error_nats=0.01,
        perplexity=2.0,
        tokens_per_s=5.0,
    )


TEACHER = [(True, True), (True, True), (True, False), (False, True)]
SFT = [(True, False), (False, False), (True, False), (False, True)]
DADPO = [(True, True), (True, False), (True, True), (False, True)]


def models() -> list[MeasuredModel]:
    return [
        model("teacher", "teacher", test=answered(TEACHER), questions=answered(TEACHER)),
        model("SFT", "student", test=answered(SFT), questions=answered(SFT)),
        model("daDPO", "student", test=answered(DADPO), questions=answered(DADPO)),
        model("gguf", "export", test=answered(DADPO[:2]), questions=answered(DADPO[:2])),
    ]


def test_a_table_known_answer():
    """Right turns: teacher 2 2 1 1, SFT 1 0 1 1, daDPO 2 1 2 1. SFT loses two; daDPO wins one and loses one."""
    table = result_table(models(), seed=0)
    teacher, sft, dadpo, gguf = table.rows
    assert (teacher.accuracy.mean, sft.accuracy.mean, dadpo.accuracy.mean) == (6 / 8, 3 / 8, 6 / 8)
    assert (teacher.preference_rate, teacher.kl_to_teacher_nats) == (None, None)
    assert (sft.preference_rate.mean, dadpo.preference_rate.mean) == (-2 / 4, 0.0)
    assert gguf.preference_rate.mean == -1 / 2


def test_an_export_shows_its_distance_to_the_student_it_was_made_from():
    table = result_table(models(), seed=0, kl_to_student_nats={"gguf": 2.5e-5})
    assert table.headings[-1] == "KL to the unquantized student"
    assert [row.kl_to_student_nats for row in table.rows] == [None, None, None, 2.5e-5]
    assert [cells[-1] for cells in table.cells()] == ["–", "–", "–", "2.5e-05"]


def test_the_later_student_is_compared_with_the_earlier_on_the_same_conversations():
    (comparison,) = result_table(models(), seed=0).comparisons
    assert (comparison.first, comparison.second) == ("daDPO", "SFT")
    assert comparison.difference.mean == 3 / 8
    assert comparison.num_questions == 4


def test_a_model_asked_less_than_the_others_is_noted():
    assert result_table(models(), seed=0).notes == ("gguf: measured on the first 2 of 4 test conversations",)


def test_answers_cut_short_are_noted():
    found = result_table([model("m", "student", test=answered(SFT, unfinished=0.25))], seed=0)
    assert found.notes == ("m, test: 25.0 % of the answers were cut at the length limit",)


def test_models_whose_answers_cannot_be_checked_have_no_accuracy_and_no_comparison():
    unchecked = answered([]).model_copy(update={"num_unchecked": 3})
    table = result_table([model(name, "student", test=unchecked) for name in ("a", "b")], seed=0)
    assert [row.accuracy for row in table.rows] == [None, None]
    assert table.comparisons == ()
    assert table.notes[0] == "a, test: 3 conversations could not be checked"
