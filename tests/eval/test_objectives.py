import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from distill.files import write_json, write_text
from eval import objectives
from eval.objective_arms import ARMS, LEARNING_RATES, first_of
from eval.objective_exam import Marks
from eval.objective_runs import TEST, VALID, Bench
from eval.objectives import SHARED_STAGES, compared
from eval.published import published_benchmark, read_published
from eval.scores import Interval

TWO = [first_of("preference"), next(arm for arm in ARMS if arm.name == "dpo")]
RATES = LEARNING_RATES["preference"]
MIDDLE = RATES[1]


class Commands:
    """Stands in for the processes: leaves what a finished training leaves, and knows the rate of the last one."""

    def __init__(self, output: Path) -> None:
        self.output, self.rate = output, 0.0
        self.trained: list[tuple[str, float]] = []

    def __call__(self, words: Sequence[str]) -> int:
        if words[0] == "train":
            objective, rate = (word.partition("=")[2] for word in words[-2:])
            self.rate = float(rate)
            self.trained.append((json.loads(objective)["name"], self.rate))
            write_json(self.output / "train" / "manifest.json", {"elapsed_s": 10.0})
        return 0


class Examiner:
    """The middle rate is the best; the start has 3 of 10 right, whoever trained 6."""

    def __init__(self, key: str, commands: Commands) -> None:
        self.key, self.commands = key, commands
        self.num_asked = 0

    def marks(self, model: str | Path) -> Marks:
        self.num_asked += 1
        is_trained = "train" in str(model)
        accuracy = (0.6 if self.commands.rate == MIDDLE else 0.4) if is_trained else 0.3
        return Marks(
            accuracy=Interval(accuracy, 0.0, 1.0),
            right=tuple((turn < 10 * accuracy,) for turn in range(10)),
            kl_to_teacher_nats=0.25,
            kl_standard_error_nats=0.1,
        )


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "run")


@pytest.fixture
def bench(tmp_path: Path, commands: Commands) -> Bench:
    write_text(tmp_path / "own.yaml", "teacher: {path: embedded}\ntrain: {max_steps: 3, global_batch_size: 2}\n")
    for stage in SHARED_STAGES:
        write_json(commands.output / stage / "manifest.json", {"elapsed_s": 1.0})
    write_text(commands.output / "pairs" / "pairs.jsonl", "{}\n" * 12)
    write_text(commands.output / "sft" / "model" / "config.json", "{}")
    return Bench(tmp_path / "own.yaml", commands.output, [], commands)


def test_the_first_arm_of_a_family_tries_the_rates_and_all_take_the_best(bench: Bench, commands: Commands):
    exams = {name: Examiner(name, commands) for name in (VALID, TEST)}
    figures, elapsed_s = compared(bench, arms=TWO, examined_by=lambda _bench: exams)
    assert commands.trained == [*(("dadpo", rate) for rate in RATES), ("dpo", MIDDLE)]
    assert (exams[VALID].num_asked, exams[TEST].num_asked) == (3, 2 + 4), "test: teacher, start and each training"
    assert [row.name for row in figures.rows] == ["teacher", "start, after sft", "dadpo", "dpo"]
    assert [row.learning_rate for row in figures.rows] == [None, None, MIDDLE, MIDDLE]
    assert [row.accuracy.mean for row in figures.rows] == [0.3, 0.3, 0.6, 0.6]
    assert figures.rows[2].difference.mean == pytest.approx(0.3)
    assert figures.rows[0].kl_to_teacher_nats is None
    assert [trial.is_chosen for trial in figures.trials] == [rate == MIDDLE for rate in RATES]
    assert elapsed_s == 4 * 1.0 + 4 * 10.0, "shared stages, then every training once"
    assert "3 steps of 2 out of 12 pairs" in figures.described


def test_a_comparison_that_was_cut_off_goes_on_where_it_stopped(bench: Bench, commands: Commands):
    first, _ = compared(bench, arms=TWO[:1], examined_by=lambda _b: {n: Examiner(n, commands) for n in (VALID, TEST)})
    whole, _ = compared(bench, arms=TWO, examined_by=lambda _b: {n: Examiner(n, commands) for n in (VALID, TEST)})
    assert len(commands.trained) == 4
    assert whole.rows[:3] == first.rows


def test_the_figures_are_published_with_their_origin(bench: Bench, commands: Commands, tmp_path: Path):
    exams = {name: Examiner(name, commands) for name in (VALID, TEST)}
    figures, elapsed_s = compared(bench, arms=TWO, examined_by=lambda _bench: exams)
    result = published_benchmark(figures, command="c", elapsed_s=elapsed_s, packages=objectives.VERSIONS)
    write_json(tmp_path / "out.json", result.model_dump(mode="json"))
    assert read_published(tmp_path / "out.json") == result
    assert "| dadpo | pairs, reference, `scores` |" in result.to_markdown()
