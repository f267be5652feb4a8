from pathlib import Path

import pytest

from distill.errors import DataError, RecipeError
from distill.files import write_jsonl
from eval.mt_bench.folder import BenchFolder, open_bench, prompts_file
from eval.mt_bench.judge_prompts import read_judge_prompts
from eval.mt_bench.prompt_sets import prompt_set
from eval.mt_bench.questions import embedded_questions, read_questions
from eval.mt_bench.references import read_references


def test_a_shipped_set_is_written_once_and_whole(tmp_path: Path):
    bench = open_bench("two_turns", data=tmp_path)
    assert bench.folder == tmp_path / "two_turns"
    assert len(read_questions(bench.questions)) == 80
    assert bench.references().name == "distill"
    before = bench.questions.stat().st_mtime_ns
    assert open_bench("two_turns", data=tmp_path).questions.stat().st_mtime_ns == before
    bench.questions.write_text("{}\n")
    with pytest.raises(DataError, match="is not the shipped file"):
        open_bench("two_turns", data=tmp_path)


def test_the_embedded_world_brings_its_references(tmp_path: Path):
    bench = open_bench("embedded", data=tmp_path)
    assert read_questions(bench.questions) == embedded_questions()
    shown = bench.references()
    assert shown.name == "embedded"
    assert read_references(shown.path) == {q.question_id: q.reference for q in embedded_questions() if q.reference}
    open_bench("embedded", data=tmp_path)
    write_jsonl(bench.questions, [q.to_json() for q in embedded_questions()[1:]])
    with pytest.raises(DataError, match="is not the shipped file"):
        open_bench("embedded", data=tmp_path)


def test_a_folder_without_questions_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"(?s)--bench is mt_bench.*distill eval fetch mt_bench"):
        open_bench("mt_bench", data=tmp_path)


def test_prompts_stand_in_the_folder_or_beside_it_or_come_with_the_package(tmp_path: Path):
    bench = BenchFolder(tmp_path / "bench")
    bench.folder.mkdir()
    assert "two_turns" in str(bench.prompts)
    (tmp_path / "judge_prompts.jsonl").touch()
    assert bench.prompts == tmp_path / "judge_prompts.jsonl"
    (bench.folder / "judge_prompts.jsonl").touch()
    assert bench.prompts == bench.folder / "judge_prompts.jsonl"


def test_a_set_of_references_is_chosen_by_name_and_never_guessed(tmp_path: Path):
    bench = open_bench("two_turns", data=tmp_path)
    other = tmp_path / "mine.jsonl"
    other.write_bytes(bench.references().path.read_bytes())
    assert bench.references("none") is None
    assert bench.references("own").path == bench.questions
    assert bench.references(str(other)).name == "mine"
    with pytest.raises(RecipeError, match=r"(?s)no set of .*there are: distill, own, none"):
        bench.references("gpt-4")
    (bench.folder / "reference_answer" / "gpt-4.jsonl").write_bytes(other.read_bytes())
    with pytest.raises(RecipeError, match="holds 2 sets of references and none was chosen"):
        bench.references()


def test_the_short_prompts_are_whole_sets_of_both_modes():
    prompts = read_judge_prompts(prompts_file("short"))
    for mode in ("single", "pair"):
        chosen = prompt_set(prompts, mode=mode)
        assert chosen.names[0] == f"distill-short-{mode}"
        assert set(chosen.names) <= chosen.prompts.keys()
    assert prompts_file(Path("mine.jsonl")) == Path("mine.jsonl")
