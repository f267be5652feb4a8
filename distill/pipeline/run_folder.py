"""One run: the recipe, its folder, and where each stage finds what earlier stages made."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import distill.embedded
from distill.data import DataSettings
from distill.embedded import CORPUS_VERSION, teacher_folder
from distill.errors import RecipeError
from distill.files import fingerprint, fingerprint_of_folder, sha256_of_file
from distill.models import ModelSettings
from distill.pipeline.pairs_files import PAIR_STAGES, PAIRS_NAME
from distill.pipeline.recipe import LoadedRecipe, Recipe

WORLD_FOLDER = Path(distill.embedded.__file__).parent / "world"
# Where a model is and how it is reached; which model it is does not change with them.
NOT_OF_A_MODEL: dict[str, Any] = {
    **dict.fromkeys(("path", "recipe", "device", "placement", "chat_template"), True),
    "endpoint": {"base_url", "api_key_env", "timeout_s", "max_concurrent", "max_retries", "logprobs"},
}


@dataclass(frozen=True)
class RunFolder:
    """A recipe bound to the folder its stages write into.

    `made_teacher` is the model folder that the teacher's own recipe made, where the recipe names one.
    """

    loaded: LoadedRecipe
    output: Path
    made_teacher: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """The validated recipe."""
        return self.loaded.recipe

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.output / name

    def conversations(self, role: str) -> Path:
        """The prepared conversations of a role: teacher, prompts, labelled, valid or test."""
        return self.stage("prepare") / f"{role}.jsonl"

    @property
    def pairs_files(self) -> dict[str, Path]:
        """The pairs that the run's student is trained on, by the stage that makes them; `pairs` where none is named."""
        on = [name for name in PAIR_STAGES if getattr(self.recipe, name) is not None]
        return {name: self.stage(name) / PAIRS_NAME for name in on or PAIR_STAGES[:1]}

    @property
    def teacher_source(self) -> str | Path:
        """The folder or hub id the teacher is loaded from."""
        teacher = self.recipe.teacher
        if teacher is None:
            raise RecipeError("the recipe has no teacher", fix="add a teacher section")
        if self.made_teacher is not None:
            return self.made_teacher
        return model_source(teacher)

    def chat_template(self, settings: ModelSettings) -> Path | None:
        """The template file that a model's settings name, relative to the recipe.

        Raises:
            RecipeError: the file does not exist.
        """
        if settings.chat_template is None:
            return None
        path = self.loaded.resolve(settings.chat_template)
        if not path.is_file():
            raise RecipeError(f"chat_template {path} does not exist", fix="check the path, relative to the recipe")
        return path

    @cached_property
    def teacher_identity(self) -> str | None:
        """A fingerprint of the teacher, or None where the recipe has none; files are read once a run."""
        teacher = self.recipe.teacher
        if teacher is None:
            return None
        return model_identity(teacher, self.made_teacher, chat_template=self.chat_template(teacher))

    @cached_property
    def student_identity(self) -> str | None:
        """A fingerprint of the student's own files, or None where it starts from no folder and no hub id."""
        student = self.recipe.student
        return (
            None if student.path is None else model_identity(student, None, chat_template=self.chat_template(student))
        )

    @cached_property
    def data_identity(self) -> str:
        """A fingerprint of the data section and of the files it names; they are read once a run."""
        return data_identity(self.recipe.data)

    @property
    def start_source(self) -> str | Path:
        """The student before preference training: the reference policy. The SFT result, else the student's own path."""
        if self.recipe.sft is not None:
            return self.stage("sft") / "model"
        if self.recipe.student.path is None:
            raise RecipeError("the recipe has no sft section and student.path is not set", fix="add an sft section")
        return model_source(self.recipe.student)

    @property
    def final_source(self) -> str | Path:
        """The student as the run leaves it."""
        if self.recipe.f_dpg is not None:
            return self.stage("f_dpg") / self.recipe.f_dpg.divergences[0] / "model"
        return self.stage("train") / "model" if self.recipe.train is not None else self.start_source


def model_source(settings: ModelSettings) -> str | Path:
    """`embedded` is the shipped teacher; an existing folder is a path; anything else is a hub id."""
    if settings.path is None:
        raise RecipeError("the model has no path", fix="set its path key")
    if settings.path == "embedded":
        return teacher_folder()
    folder = Path(settings.path).expanduser()
    if folder.exists():
        return folder
    if settings.path.startswith(("/", ".", "~")) or settings.path.count("/") > 1:
        raise RecipeError(f"model folder {settings.path} does not exist", fix="check the path; a hub id is owner/name")
    return settings.path


def model_identity(settings: ModelSettings, made: Path | None, *, chat_template: Path | None) -> str:
    """A fingerprint of the model's files, or of its hub id and revision; and of the template in place of its own."""
    source = made if made is not None else model_source(settings)
    described = settings.model_dump(mode="json", exclude=NOT_OF_A_MODEL)
    template = [] if chat_template is None else [sha256_of_file(chat_template)]
    if isinstance(source, Path):
        return fingerprint([described, fingerprint_of_folder(source) if source.exists() else "not made yet", *template])
    return fingerprint([described, source, *template])


def data_identity(settings: DataSettings) -> str:
    """A fingerprint of the data section and of the contents of the files it names."""
    described: list[object] = [settings.model_dump(mode="json", exclude={"path"})]
    if settings.source == "embedded":
        described += [CORPUS_VERSION, fingerprint_of_folder(WORLD_FOLDER)]
    if settings.path is None:
        return fingerprint(described)
    path = Path(settings.path)
    if not path.exists():
        raise RecipeError(f"data.path {path} does not exist", fix="check the path, or override it: data.path=FOLDER")
    return fingerprint([described, fingerprint_of_folder(path) if path.is_dir() else sha256_of_file(path)])
