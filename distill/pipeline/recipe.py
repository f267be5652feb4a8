"""A recipe: its top-level keys are the stages, plus teacher, student, data, seed and output."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from distill.data import DataSettings
from distill.errors import RecipeError
from distill.export import ExportSettings
from distill.models import ModelSettings, is_partitioned
from distill.objectives.table import OBJECTIVES
from distill.pipeline.safer_instruct_settings import SaferInstructSettings
from distill.pipeline.stage_settings import DistilledSftSettings, EvaluateSettings, TeacherSettings
from distill.preference import PairsSettings
from distill.settings import Settings, parse_yaml, read_yaml, validated, with_overrides
from distill.teacher_cache import ENDPOINT_CODECS, SCORE_CODECS, CacheSettings
from distill.training import TrainSettings, draws_answers
from distill.training.f_dpg_settings import FDpgSettings
from eval.energy_settings import RewardStageSettings
from eval.harmlessness import HarmlessnessSettings
from eval.steering import SteeringSettings


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
    reward: RewardStageSettings | None = Field(None, description="reward model and EBRM on it, fitted and measured")
    pairs: PairsSettings | None = Field(None, description="teacher answer chosen, student answer rejected")
    safer_instruct: SaferInstructSettings | None = Field(None, description="pairs from unlabelled harmful texts")
    cache: CacheSettings | None = Field(None, description="teacher and reference score both completions")
    train: TrainSettings | None = Field(None, description="the student trains from the cache")
    f_dpg: FDpgSettings | None = Field(None, description="the student moves toward a target distribution")
    export: ExportSettings | None = Field(None, description="merged and quantized artefacts")
    evaluate: EvaluateSettings | None = Field(None, description="accuracy, preference rate, divergence, speed")
    harmlessness: HarmlessnessSettings | None = Field(
        None, description="harmless answers to provoking prompts, and refusals of ordinary ones, before and after"
    )
    linear_alignment: SteeringSettings | None = Field(None, description="how far a principle steers the teacher")

    @field_validator("output")
    @classmethod
    def _expanded(cls, output: Path) -> Path:
        return output.expanduser()

    @model_validator(mode="after")
    def _stages_fit_together(self) -> "Recipe":
        if self.teacher is None:
            for name in ("pairs", "cache", "train", "linear_alignment"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs a teacher, but the recipe has no teacher")
            if self.sft is not None and self.sft.answers == "teacher":
                raise ValueError("sft.answers is teacher, but the recipe has no teacher (use sft.answers: data)")
        if self.f_dpg is not None and self.train is not None:
            raise ValueError("f_dpg and train both make the run's last student (set one of them to null)")
        if self.f_dpg is not None and self.f_dpg.target.beta_teacher > 0 and self.teacher is None:
            raise ValueError("f_dpg.target.beta_teacher is positive, but the recipe has no teacher")
        if self.student.recipe is not None:
            raise ValueError("student.recipe is set, but only a teacher can name the recipe that makes it")
        if self.student.placement != "one-device":
            raise ValueError(
                f"student.placement is {self.student.placement}, but only a teacher is spread over devices"
                " (a student is, by train.deepspeed)"
            )
        scored = None if self.pairs is None else self.pairs.reward
        if scored is not None and scored.model is None and self.reward is None:
            raise ValueError("pairs.reward names no model, and the recipe has no reward section that would make one")
        if self.reward is not None and self.reward.best_of_n is not None and self.data.num_test == 0:
            raise ValueError("data.num_test is 0, but reward.best_of_n needs test conversations")
        if self.train is not None and self.pairs is None and self.safer_instruct is None:
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
        steered = {
            "sft.linear_alignment": None if self.sft is None else self.sft.linear_alignment,
            "pairs.linear_alignment": None if self.pairs is None else self.pairs.linear_alignment,
            "linear_alignment": self.linear_alignment,
        }
        for name, section in steered.items():
            if section is not None:
                raise ValueError(
                    f"teacher.endpoint is set, but {name} compares the logits of every next token with and without a"
                    " principle (load the teacher here: teacher.endpoint: null)"
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
    def _texts_become_pairs(self) -> "Recipe":
        if self.safer_instruct is not None:
            if self.teacher is None and self.safer_instruct.expert.endpoint is None:
                raise ValueError("safer_instruct.expert has no endpoint, and the recipe has no teacher to answer")
            if self.train is not None and not self.safer_instruct.keep_rejected:
                raise ValueError("train needs rejected answers, but safer_instruct.keep_rejected is false")
            backward = self.safer_instruct.backward
            is_alone = backward.tuning is not None and not backward.num_unfiltered
            if is_alone and getattr(self.data, f"num_{backward.conversations}") == 0:
                raise ValueError(
                    f"data.num_{backward.conversations} is 0, but safer_instruct.backward learns from them"
                )
        if self.harmlessness is not None and self.train is None:
            raise ValueError("harmlessness compares the student before and after train, but there is no train section")
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
        formats = [] if self.export is None else [name for name in self.export.formats if name.startswith("gguf")]
        if formats and self.evaluate is not None and self.evaluate.linear_alignment is not None:
            raise ValueError(
                f"evaluate.linear_alignment is set, but export.formats holds {', '.join(formats)}: llama.cpp does not"
                " show the logits of every next token with and without a principle (export.formats=[safetensors])"
            )
        if self.linear_alignment is not None and self.data.num_test == 0:
            raise ValueError("data.num_test is 0, but linear_alignment needs test conversations")
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
