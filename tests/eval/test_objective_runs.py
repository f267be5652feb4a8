from collections.abc import Sequence
from pathlib import Path

import pytest

from distill.errors import DistillError, RecipeError
from distill.files import write_json, write_text
from eval.objective_arms import first_of
from eval.objective_exam import Marks
from eval.objective_runs import TEST, VALID, Bench, exit_code_of, trained
from eval.scores import Interval

KD, SFT = first_of("distributions"), first_of("likelihood")


class Commands:
    """Stands in for the processes: remembers their words, and leaves what a finished training leaves."""

    def __init__(self) -> None:
        self.words: list[list[str]] = []
        self.code = 0

    def __call__(self, words: Sequence[str]) -> int:
        self.words.append(list(words))
        (output,) = [Path(word.partition("=")[2]) for word in words if word.startswith("output=")]
        write_json(output / "train" / "manifest.json", {"elapsed_s": 7.5})
        write_json(output / "sft" / "manifest.json", {"elapsed_s": 2.5})
        return self.code


class Examiner:
    """Gives one mark to whatever it sees, and counts."""

    def __init__(self, key: str) -> None:
        self.key, self.num_seen = key, 0

    def marks(self, model: str | Path) -> Marks:
        self.num_seen += 1
        half = Interval(0.5, 0.4, 0.6)
        return Marks(accuracy=half, right=((True, False),), kl_to_teacher_nats=0.25, kl_standard_error_nats=None)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def bench(tmp_path: Path, commands: Commands) -> Bench:
    write_text(tmp_path / "own.yaml", "train: {max_steps: 3, learning_rate: 1, objective: {name: dpo}}\nseed: 1\n")
    write_text(tmp_path / "run" / "sft" / "model" / "config.json", "{}")
    write_text(tmp_path / "run" / "pairs" / "pairs.jsonl", "{}\n")
    return Bench(tmp_path / "own.yaml", tmp_path / "run", ["train.max_steps=5"], commands)


def exams(key: str = "k") -> dict[str, Examiner]:
    return {VALID: Examiner(f"valid {key}"), TEST: Examiner(f"test {key}")}


def test_what_all_share_is_made_by_one_command(bench: Bench, commands: Commands):
    bench.prepare()
    assert commands.words == [
        ["run", str(bench.recipe), "--until", "cache", "train.max_steps=5", f"output={bench.output}"]
    ]


def test_an_arm_trains_from_the_shared_stages_and_its_figures_stand(bench: Bench, commands: Commands):
    asked = exams()
    first = trained(bench, KD, asked, learning_rate=1e-3)
    assert commands.words == [
        [
            "train",
            str(bench.recipe),
            "train.max_steps=5",
            f"output={bench.output}",
            'train.objective={"name": "kd", "divergence": "forward_kl", "tier": "exact"}',
            "train.learning_rate=0.001",
        ]
    ]
    assert (first.train_s, first.marks[TEST].accuracy.mean) == (7.5, 0.5)
    assert trained(bench, KD, asked, learning_rate=1e-3) == first
    assert len(commands.words) == asked[TEST].num_seen == asked[VALID].num_seen == 1


@pytest.mark.parametrize("changed", ["rate", "exam", "pairs", "start", "steps"])
def test_figures_of_something_else_do_not_stand(bench: Bench, commands: Commands, changed: str):
    trained(bench, KD, exams(), learning_rate=1e-3)
    if changed == "pairs":
        write_text(bench.pairs, "{}\n{}\n")
    if changed == "start":
        write_text(bench.start / "config.json", '{"other": 1}')
    other = Bench(bench.recipe, bench.output, ["train.max_steps=6"], commands) if changed == "steps" else bench
    rate, key = 2e-3 if changed == "rate" else 1e-3, "other" if changed == "exam" else "k"
    trained(other, KD, exams(key), learning_rate=rate)
    assert len(commands.words) == 2


def test_figures_that_lack_an_exam_are_made_again(bench: Bench, commands: Commands):
    trained(bench, KD, {TEST: Examiner("test k")}, learning_rate=1e-3)
    assert set(trained(bench, KD, exams(), learning_rate=1e-3).marks) == {VALID, TEST}
    assert len(commands.words) == 2


def test_sft_learns_the_chosen_answers_in_a_run_of_its_own(bench: Bench, commands: Commands):
    found = trained(bench, SFT, exams(), learning_rate=1e-3)
    assert found.train_s == 2.5
    (words,) = commands.words
    output = bench.output / "objective-sft"
    assert words[:5] == ["run", str(bench.recipe), "--until", "sft", "train.max_steps=5"]
    assert f"output={output}" in words
    assert f'student={{"path": "{bench.start}"}}' in words
    assert "train=null" in words
    assert (bench.output / "objective-sft-data" / "labelled.jsonl").read_text() == bench.pairs.read_text()
    (section,) = [word for word in words if word.startswith("sft=")]
    for part in ('"max_steps": 5', '"learning_rate": 0.001', '"answers": "data"', '"objective": {"name": "sft"}'):
        assert part in section


def test_a_command_that_fails_ends_the_comparison(bench: Bench, commands: Commands):
    commands.code = 2
    with pytest.raises(DistillError, match="distill train ended with code 2\nwhy: its own message stands above"):
        bench.train(KD, learning_rate=1.0)


def test_a_recipe_without_the_section_is_refused(bench: Bench):
    with pytest.raises(RecipeError, match=r"own\.yaml has no section teacher\nfix: take recipes/objectives\.yaml"):
        bench.section("teacher")


def test_a_command_runs_in_a_process_of_its_own():
    assert exit_code_of(["--version"]) == 0
    assert exit_code_of(["no-such-verb"]) == 2
