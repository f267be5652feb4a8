"""Trains one objective after the other through the command line; what the first stages made serves them all."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.errors import DistillError, RecipeError
from distill.files import fingerprint, fingerprint_of_folder, read_json, sha256_of_file, write_json
from distill.settings import Settings, read_yaml, validated, with_overrides
from eval.objective_arms import Arm
from eval.objective_exam import Examiner, Marks

log = logging.getLogger(__name__)

VALID, TEST = "valid", "test"
SFT_FOLDER = "objective-sft"


class Trained(Settings):
    """The figures of one objective at one rate; `key` fingerprints what they were made from."""

    key: str
    train_s: float
    marks: dict[str, Marks]


def exit_code_of(words: Sequence[str]) -> int:
    """Runs `distill WORDS` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "distill", *words], check=False).returncode


@dataclass(frozen=True)
class Bench:
    """A recipe whose stages up to `cache` stand in `output`, and where objectives train from there.

    `run` runs the words of a `distill` command and tells its exit code.
    """

    recipe: Path
    output: Path
    overrides: Sequence[str]
    run: Callable[[Sequence[str]], int] = exit_code_of

    @property
    def settings(self) -> dict[str, object]:
        """The recipe as it stands, with the overrides."""
        return with_overrides(read_yaml(self.recipe), list(self.overrides))

    def section(self, name: str) -> dict[str, object]:
        """A section of the recipe.

        Raises:
            RecipeError: the recipe has no such section.
        """
        found = self.settings.get(name)
        if not isinstance(found, dict):
            raise RecipeError(f"recipe {self.recipe} has no section {name}", fix="take recipes/objectives.yaml")
        return found

    def prepare(self) -> None:
        """Runs the stages that all objectives share, as far as they do not stand."""
        self._distill("run", "--until", "cache", *self._common(self.output))

    @property
    def start(self) -> Path:
        """The student that every objective starts from."""
        return self.output / "sft" / "model"

    @property
    def pairs(self) -> Path:
        """The pairs that every objective learns from."""
        return self.output / "pairs" / "pairs.jsonl"

    def key(self, arm: Arm, *, learning_rate: float) -> str:
        """A fingerprint of what an arm's student is made from."""
        made_from = [fingerprint_of_folder(self.start), sha256_of_file(self.pairs), self.section("train")]
        return fingerprint([*made_from, dict(arm.objective), learning_rate])

    def train(self, arm: Arm, *, learning_rate: float) -> Path:
        """Trains the arm from the start; returns the stage's folder, which the next arm's training clears.

        Raises:
            DistillError: the command failed; its own message stands above.
        """
        if arm.objective_name == "sft":
            return self._sft(learning_rate)
        changes = {"train.objective": dict(arm.objective), "train.learning_rate": learning_rate}
        self._distill("train", *self._common(self.output), *_overrides(changes))
        return self.output / "train"

    def _sft(self, learning_rate: float) -> Path:
        """`sft` learns conversations, not pairs: those that end with the pairs' chosen answers."""
        output, data = self.output / SFT_FOLDER, self.output / f"{SFT_FOLDER}-data"
        data.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.pairs, data / "labelled.jsonl")
        section = {**self.section("train"), "objective": {"name": "sft"}, "learning_rate": learning_rate}
        changes: dict[str, object] = {
            "student": {"path": str(self.start)},
            "data": {"source": "files", "path": str(data)},
            "sft": {**section, "answers": "data", "labelled": "labelled"},
            **dict.fromkeys(("teacher", "pairs", "cache", "train")),
        }
        self._distill("run", "--until", "sft", *self._common(output), *_overrides(changes))
        return output / "sft"

    def _distill(self, verb: str, *arguments: str) -> None:
        code = self.run([verb, str(self.recipe), *arguments])
        if code != 0:
            raise DistillError(f"distill {verb} ended with code {code}", why="its own message stands above")

    def _common(self, output: Path) -> tuple[str, ...]:
        return (*self.overrides, f"output={output}")


def trained(bench: Bench, arm: Arm, exams: Mapping[str, Examiner], *, learning_rate: float) -> Trained:
    """The figures of an arm at a rate: those that stand from an earlier call, or those of a training now."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    path = bench.output / "objectives" / f"{slug}-{learning_rate:g}.json"
    key = fingerprint([bench.key(arm, learning_rate=learning_rate), {name: exam.key for name, exam in exams.items()}])
    if path.exists():
        found = validated(Trained, read_json(path), source=str(path))
        if found.key == key:
            log.info("%s at %g: stands", arm.name, learning_rate)
            return found
    log.info("%s at %g", arm.name, learning_rate)
    folder = bench.train(arm, learning_rate=learning_rate)
    marks = {name: exam.marks(folder / "model") for name, exam in exams.items()}
    result = Trained(key=key, train_s=stage_seconds(folder), marks=marks)
    write_json(path, result.model_dump(mode="json"))
    return result


def stage_seconds(folder: Path) -> float:
    """How long a finished stage took."""
    seconds = read_json(folder / "manifest.json")["elapsed_s"]
    assert isinstance(seconds, int | float), "a finished stage's manifest says how long it took"
    return float(seconds)


def _overrides(changes: Mapping[str, object]) -> list[str]:
    """Overrides whose values are JSON, which is YAML too."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
