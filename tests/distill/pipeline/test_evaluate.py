from distill.pipeline.evaluate import Candidate, kl_to_student, run_evaluate
from distill.pipeline.run_folder import RunFolder
from eval.results import read_results


def test_every_model_of_the_run_has_its_row_and_the_merged_export_is_the_student(finished: RunFolder):
    teacher, student = read_results(finished.stage("evaluate") / "results.json").rows
    assert (teacher.model, student.model) == ("teacher", "student after daDPO")
    assert teacher.num_parameters == student.num_parameters
    assert all(row.accuracy is not None and row.tokens_per_s > 0 for row in (teacher, student))


def test_the_student_is_held_against_the_teacher_and_the_teacher_against_nobody(finished: RunFolder):
    teacher, student = read_results(finished.stage("evaluate") / "results.json").rows
    assert teacher.kl_to_teacher_nats is None
    assert student.kl_to_teacher_nats > 0


def test_measured_models_are_not_measured_again(finished: RunFolder):
    files = sorted((finished.stage("evaluate") / "models").iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    run_evaluate(finished)
    assert [path.stat().st_mtime_ns for path in files] == before


def test_figures_are_filed_under_a_plain_name():
    assert Candidate("student after SFT/1", "student", "x").slug == "student-after-SFT-1"


def test_each_export_has_the_distance_that_its_report_says(finished: RunFolder):
    """The run exports the merged model alone, which is the student in other words."""
    assert kl_to_student(finished) == {"safetensors": 0.0}
