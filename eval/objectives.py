"""Every objective of the trainer after an equal budget: accuracy and KL to the teacher, from one start.

    python -m eval.objectives [--recipe RECIPE] [--output DIR] [--json FILE] [key.sub=value ...]

The recipe's stages up to the cache run once; each objective then trains from the same student on the same pairs for the
same number of steps, by `distill train`. An objective whose figures stand is not trained again. Ends with the table.
"""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill.files import write_json
from distill.models import load_model
from distill.progress import Tracker, tracked
from eval.objective_arms import ARMS, LEARNING_RATES, Arm, Family, first_of
from eval.objective_exam import Exam, Examiner, Marks
from eval.objective_figures import ObjectiveFigures, ObjectiveRow, RateTrial
from eval.objective_runs import TEST, VALID, Bench, Trained, stage_seconds, trained
from eval.preference_rate import accuracy_difference
from eval.published import command_of, published_benchmark

log = logging.getLogger(__name__)

RECIPE = Path("recipes/objectives.yaml")
NUM_REFERENCES = 100
SHARED_STAGES = ("prepare", "sft", "pairs", "cache")
VERSIONS = ("torch", "transformers", "deepspeed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, trains, measures."""
    parser = argparse.ArgumentParser(prog="python -m eval.objectives", description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="with sections up to train, and no evaluate")
    parser.add_argument("--output", type=Path, default=Path("runs/objectives"), help="the run's folder")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="of the recipe")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bench = Bench(options.recipe, options.output, options.overrides)
    figures, elapsed_s = compared(bench)
    log.info(figures.to_markdown())
    if options.json is not None:
        command = " ".join([command_of("eval.objectives", []), *options.overrides])
        result = published_benchmark(figures, command=command, elapsed_s=elapsed_s, packages=VERSIONS)
        write_json(options.json, result.model_dump(mode="json"))


def exams_of(bench: Bench) -> dict[str, Examiner]:
    """The exams on both held-out splits; the teacher answers some of each."""
    teacher = load_model(teacher_of(bench), dtype="float32")
    folder = bench.output / "prepare"
    return {name: Exam.of(folder / f"{name}.jsonl", teacher, num_references=NUM_REFERENCES) for name in (VALID, TEST)}


def teacher_of(bench: Bench) -> str:
    """The folder, or the word, by which the recipe names its teacher."""
    return str(bench.section("teacher")["path"])


def compared(
    bench: Bench, *, arms: Sequence[Arm] = ARMS, examined_by: Callable[[Bench], Mapping[str, Examiner]] = exams_of
) -> tuple[ObjectiveFigures, float]:
    """Trains and measures every arm; returns the figures, and the seconds that all stages and trainings took."""
    bench.prepare()
    exams = examined_by(bench)
    teacher, start = exams[TEST].marks(teacher_of(bench)), exams[TEST].marks(bench.start)
    contest = _Contest(bench, exams, arms)
    with tracked("objectives", contest.num_trainings) as tracker:
        rows = [contest.row(arm, start, tracker) for arm in arms]
    first = [_plain_row("teacher", teacher, is_teacher=True), _plain_row("start, after sft", start)]
    shared_s = sum(stage_seconds(bench.output / stage) for stage in SHARED_STAGES)
    figures = ObjectiveFigures(described=_described(bench), rows=(*first, *rows), trials=tuple(contest.trials))
    return figures, shared_s + contest.train_s


class _Contest:
    """The trainings of all arms; the first arm of a family tries the family's rates."""

    def __init__(self, bench: Bench, exams: Mapping[str, Examiner], arms: Sequence[Arm]) -> None:
        self.bench, self.exams = bench, exams
        families = {arm.family for arm in arms}
        plain = {arm.name for arm in arms} - {first_of(family).name for family in families}
        self.num_trainings = len(plain) + sum(len(LEARNING_RATES[family]) for family in families)
        self.trials: list[RateTrial] = []
        self.train_s = 0.0
        self._rates: dict[Family, float] = {}

    def row(self, arm: Arm, start: Marks, tracker: Tracker) -> ObjectiveRow:
        """One arm at its family's rate."""
        rate = self._rate(arm.family, tracker)
        found = self._trained(arm, rate, tracker)
        marks = found.marks[TEST]
        return ObjectiveRow(
            name=arm.name,
            learns_from=arm.learns_from,
            learning_rate=rate,
            accuracy=marks.accuracy,
            difference=accuracy_difference(marks.right, start.right, seed=0).difference,
            kl_to_teacher_nats=marks.kl_to_teacher_nats,
            kl_standard_error_nats=marks.kl_standard_error_nats,
            train_s=found.train_s,
        )

    def _rate(self, family: Family, tracker: Tracker) -> float:
        """The family's rate: the best valid accuracy of its first arm, the smaller KL where two are alike."""
        if family not in self._rates:
            arm = first_of(family)
            tried = {rate: self._trained(arm, rate, tracker).marks[VALID] for rate in LEARNING_RATES[family]}
            self._rates[family] = max(tried, key=lambda rate: _worth(tried[rate]))
            self.trials += [
                RateTrial(
                    family=family,
                    name=arm.name,
                    learning_rate=rate,
                    accuracy=marks.accuracy.mean,
                    kl_to_teacher_nats=marks.kl_to_teacher_nats,
                    is_chosen=rate == self._rates[family],
                )
                for rate, marks in tried.items()
            ]
        return self._rates[family]

    def _trained(self, arm: Arm, rate: float, tracker: Tracker) -> Trained:
        is_trial = arm == first_of(arm.family)
        is_new = not (is_trial and arm.family in self._rates)
        exams = self.exams if is_trial else {TEST: self.exams[TEST]}
        found = trained(self.bench, arm, exams, learning_rate=rate)
        if is_new:
            self.train_s += found.train_s
            tracker.advance()
        return found


def _worth(marks: Marks) -> tuple[float, float]:
    return marks.accuracy.mean, -marks.kl_to_teacher_nats


def _plain_row(name: str, marks: Marks, *, is_teacher: bool = False) -> ObjectiveRow:
    return ObjectiveRow(
        name=name,
        accuracy=marks.accuracy,
        kl_to_teacher_nats=None if is_teacher else marks.kl_to_teacher_nats,
        kl_standard_error_nats=None if is_teacher else marks.kl_standard_error_nats,
    )


def _described(bench: Bench) -> str:
    """The budget in one sentence."""
    train = bench.section("train")
    with bench.pairs.open(encoding="utf-8") as lines:
        num_pairs = sum(1 for _ in lines)
    return (
        f"{train['max_steps']} steps of {train['global_batch_size']} out of {num_pairs:,} pairs from one start;"
        f" accuracy on the held-out test conversations with 95 % intervals, resampled by conversation, paired for the"
        f" points over the start; KL on the teacher's own answers to {NUM_REFERENCES} of them, ± its standard error"
    )


if __name__ == "__main__":
    main()
