"""A recipe: its top-level keys are the stages, plus teacher, student, data, seed and output."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from distill.data import DataSettings
from distill.errors import RecipeError
from distill.export import ExportSettings
from distill.models import ModelSettings, is_partitioned
from distill.objectives.table import OBJECTIVES
from distill.pipeline.stage_settings import DistilledSftSettings, EvaluateSettings, TeacherSettings
from distill.preference import PairsSettings
from distill.settings import Settings, parse_yaml, read_yaml, validated, with_overrides
from distill.teacher_cache import ENDPOINT_CODECS, SCORE_CODECS, CacheSettings
from distill.training import TrainSettings, draws_answers


class Recipe(Settings):
    """Everything one run needs to know."""

    description: str = Field("", description="one sentence: what this recipe shows")
    output: Path = Field(description="the run's folder; one sub-folder a stage")
    seed: int = Field(0, ge=0, description="the seed of every random choice")
    teacher: TeacherSettings | None = Field(None, description="who teaches; absent in a recipe that makes a teacher")
    student: ModelSettings = Field(description="who learns")
    data: DataSettings = Field(description="prompts and conversations")
    sft: DistilledSftSettings | None = Field(
        None, description="the student learns answers, the teacher's or the data's"
    )
    pairs: PairsSettings | None = Field(None, description="teacher answer chosen, student answer rejected")
    cache: CacheSettings | None = Field(None, description="teacher and reference score both completions")
    train: TrainSettings | None = Field(None, description="the student trains from the cache")
    export: ExportSettings | None = Field(None, description="merged and quantized artefacts")
    evaluate: EvaluateSettings | None = Field(None, description="accuracy, preference rate, divergence, speed")

    @field_validator("output")
    @classmethod
    def _expanded(cls, output: Path) -> Path:
        return output.expanduser()

    @model_validator(mode="after")
    def _stages_fit_together(self) -> "Recipe":
        if self.teacher is None:
            for name in ("pairs", "cache", "train"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs a teacher, but the recipe has no teacher")
            if self.sft is not None and self.sft.answers == "teacher":
                raise ValueError("sft.answers is teacher, but the recipe has no teacher (use sft.answers: data)")
        if self.student.recipe is not None:
            raise ValueError("student.recipe is set, but only a teacher can name the recipe that makes it")
        if self.student.placement != "one-device":
            raise ValueError(
                f"student.placement is {self.student.placement}, but only a teacher is spread over devices"
                " (a student is, by train.deepspeed)"
            )
        if self.train is not None and self.pairs is None:
            raise ValueError("train needs pairs: add a pairs section")
        if self.train is not None and self.cache is None:
            raise ValueError("train needs the teacher cache: add a cache section")
        if self.train is not None and self.cache is not None:
            trained, cached = self.train.max_length_tokens, self.cache.max_length_tokens
            if trained != cached:
                raise ValueError(
                    f"train.max_length_tokens is {trained} and cache.max_length_tokens is {cached}:"
                    " both must cut the pairs alike"
                )
        return self

    @model_validator(mode="after")
    def _a_server_is_asked_for_no_weights(self) -> "Recipe":
        if self.teacher is None or self.teacher.endpoint is None:
            return self
        unfit = [] if self.cache is None else [tier.codec for tier in self.cache.tiers]
        unfit = [codec for codec in unfit if codec not in ENDPOINT_CODECS]
        if unfit:
            raise ValueError(
                f"teacher.endpoint is set, but cache.codec asks for {', '.join(unfit)}: a server tells log-probs of"
                f" tokens only (use cache.codec: [{', '.join(ENDPOINT_CODECS)}])"
            )
        if self.student.prune is not None:
            raise ValueError("teacher.endpoint is set, but student.prune cuts the student out of the teacher's weights")
        if self.evaluate is not None:
            raise ValueError(
                "teacher.endpoint is set, but evaluate compares whole distributions with the teacher's weights"
                " (set evaluate: null)"
            )
        return self

    @model_validator(mode="after")
    def _a_live_teacher_can_be_at_hand(self) -> "Recipe":
        if self.train is None or self.teacher is None or not draws_answers(self.train):
            return self
        why = f"objective {self.train.objective.name} here reads answers that the student draws while it trains"
        if self.teacher.endpoint is not None:
            raise ValueError(
                f"teacher.endpoint is set, but {why}, with the teacher's weights (load it: teacher.endpoint: null)"
            )
        if is_partitioned(self.teacher.placement):
            raise ValueError(
                f"teacher.placement is {self.teacher.placement}, but {why}, each rank its own"
                " (use teacher.placement: device-map)"
            )
        if self.student.tokenizer_vocab_size is not None:
            raise ValueError(
                f"student.tokenizer_vocab_size is {self.student.tokenizer_vocab_size}, but {why}, by the token ids of"
                " one tokenizer (leave it out: the student then has the teacher's)"
            )
        return self

    @model_validator(mode="after")
    def _objectives_get_what_they_learn_from(self) -> "Recipe":
        for name, settings, examples in (("sft", self.sft, "conversations"), ("train", self.train, "pairs")):
            if settings is not None and OBJECTIVES[settings.objective.name].examples != examples:
                raise ValueError(
                    f"{name}.objective.name is {settings.objective.name}, but {name} learns from {examples}"
                )
        if self.train is not None and self.cache is not None:
            _require_tiers(self.cache, self.train)
        if self.evaluate is not None and self.data.num_test == 0:
            raise ValueError("data.num_test is 0, but evaluate needs test conversations")
        return self


def _require_tiers(cache: CacheSettings, train: TrainSettings) -> None:
    """Refuses a cache without the tier that the objective learns from, by the table of objectives."""
    objective = train.objective
    needs = OBJECTIVES[objective.name]
    names = [tier.codec for tier in cache.tiers]
    for is_needed, codecs, what in (
        (needs.needs_distributions(objective), needs.distribution_tiers(objective), "compares whole distributions"),
        (needs.needs_teacher_scores, SCORE_CODECS, "compares log-probs of tokens"),
    ):
        if is_needed and not set(names) & set(codecs):
            raise ValueError(
                f"cache.codec is {', '.join(names)}, but objective {objective.name} here {what}"
                f" (add its tier: distill cache RECIPE 'cache.codec=[{','.join((*names, codecs[0]))}]')"
            )


class LoadedRecipe(Settings):
    """A recipe with the place it was read from, against which its own paths resolve."""

    recipe: Recipe
    path: Path

    def resolve(self, path: Path) -> Path:
        """A path that the recipe's file names (another recipe, a DeepSpeed file), relative to that file."""
        return path if path.is_absolute() else (self.path.parent / path).resolve()


def load_recipe(source: Path | str, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Reads a recipe from a file, or from YAML text, and applies `key.sub=value` overrides.

    Raises:
        RecipeError: the file is missing or not YAML, or a key or a value is wrong; every problem is named.
    """
    if isinstance(source, Path):
        if source.suffix not in (".yaml", ".yml"):
            raise RecipeError(f"recipe {source} does not end in .yaml", fix="name a recipe file")
        values, path = read_yaml(source), source.resolve()
    else:
        values, path = parse_yaml(source, source="recipe"), Path.cwd() / "recipe.yaml"
    return LoadedRecipe(recipe=validated(Recipe, with_overrides(values, list(overrides)), source=path.name), path=path)
