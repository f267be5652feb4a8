from distill.pipeline.evaluate import Candidate, run_evaluate
from distill.pipeline.run_folder import RunFolder
from eval.results import read_results


def test_every_model_of_the_run_has_its_row(finished: RunFolder):
    table = read_results(finished.stage("evaluate") / "results.json")
    assert [row.model for row in table.rows] == ["teacher", "student after daDPO", "safetensors"]
    teacher, student, export = table.rows
    assert teacher.num_parameters == student.num_parameters
    assert export.num_parameters is None
    assert all(row.accuracy is not None and row.tokens_per_s > 0 for row in table.rows)


def test_the_teacher_is_no_distance_from_itself_and_an_export_where_its_model_is(finished: RunFolder):
    teacher, student, export = read_results(finished.stage("evaluate") / "results.json").rows
    assert abs(teacher.kl_to_teacher_nats) < 1e-6
    assert student.kl_to_teacher_nats > 0
    assert abs(export.kl_to_teacher_nats - student.kl_to_teacher_nats) < 1e-5


def test_measured_models_are_not_measured_again(finished: RunFolder):
    files = sorted((finished.stage("evaluate") / "models").iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    run_evaluate(finished)
    assert [path.stat().st_mtime_ns for path in files] == before


def test_figures_are_filed_under_a_plain_name():
    assert Candidate("student after SFT/1", "student", "x").slug == "student-after-SFT-1"
