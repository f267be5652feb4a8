"""The stages in order: what each needs, which recipe keys shape it, and what runs it."""

from collections.abc import Callable
from dataclasses import dataclass

from distill.files import fingerprint
from distill.pipeline.cache import run_cache
from distill.pipeline.evaluate import run_evaluate
from distill.pipeline.export import run_export
from distill.pipeline.f_dpg import run_f_dpg
from distill.pipeline.harmlessness import run_harmlessness
from distill.pipeline.linear_alignment import run_linear_alignment
from distill.pipeline.pairs import run_pairs
from distill.pipeline.prepare import run_prepare
from distill.pipeline.report import SHOWN_STAGES, run_report
from distill.pipeline.reward import named_files_identity, run_reward
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.safer_instruct import files_identity, run_safer_instruct
from distill.pipeline.sft import run_sft, settings_here
from distill.pipeline.train import run_train
from distill.settings import Settings
from distill.teacher_cache.settings import ORGANISATION, CacheSettings
from distill.training import CADENCE, TrainSettings, memory_plan

ADDED = "tiers"
"""The input that a stage adds to what it holds, where a change of any other starts it and the later ones over."""


@dataclass(frozen=True)
class Stage:
    """One step of a run; `key` is the recipe key that turns it on (None: always on)."""

    key: str | None
    needs: tuple[str, ...]
    uses_teacher: bool
    run: Callable[[RunFolder], dict[str, object]]


STAGES: dict[str, Stage] = {
    "prepare": Stage("data", (), False, run_prepare),
    "sft": Stage("sft", ("prepare",), True, run_sft),
    "reward": Stage("reward", ("prepare", "sft"), True, run_reward),
    "pairs": Stage("pairs", ("prepare", "sft", "reward"), True, run_pairs),
    "safer_instruct": Stage("safer_instruct", ("prepare",), True, run_safer_instruct),
    "cache": Stage("cache", ("pairs", "safer_instruct", "sft"), True, run_cache),
    "train": Stage("train", ("cache", "pairs", "safer_instruct", "sft"), True, run_train),
    "f_dpg": Stage("f_dpg", ("prepare", "sft"), True, run_f_dpg),
    "export": Stage("export", ("train", "f_dpg", "sft"), False, run_export),
    "evaluate": Stage("evaluate", ("prepare", "sft", "train", "f_dpg", "export"), True, run_evaluate),
    "harmlessness": Stage("harmlessness", ("prepare", "sft", "safer_instruct", "train"), False, run_harmlessness),
    "linear_alignment": Stage("linear_alignment", ("prepare",), True, run_linear_alignment),
    "report": Stage(None, SHOWN_STAGES, False, run_report),
}


def stages_of(run: RunFolder) -> list[str]:
    """The stages that the recipe turns on, in order."""
    return [name for name, stage in STAGES.items() if stage.key is None or getattr(run.recipe, stage.key) is not None]


def inputs_of(run: RunFolder, name: str) -> dict[str, str]:
    """What a stage is made from: its settings, the seed, models, data and the stages before it, as fingerprints."""
    stage, recipe = STAGES[name], run.recipe
    inputs = {"stage": name, "seed": str(recipe.seed)}
    if name == "prepare":
        inputs["data"] = run.data_identity
    elif stage.key is not None:
        inputs["settings"] = settings_identity(run, getattr(recipe, stage.key))
    if name == "cache" and recipe.cache is not None:
        tiers = sorted(recipe.cache.tiers, key=lambda tier: tier.codec)
        inputs[ADDED] = fingerprint([tier.model_dump(mode="json") for tier in tiers])
    if name in ("safer_instruct", "harmlessness"):
        inputs["files"] = files_identity(recipe, name)
    if name == "reward" and recipe.reward is not None:
        inputs["pair files"] = named_files_identity(recipe.reward)
    if stage.uses_teacher and run.teacher_identity is not None:
        inputs["teacher"] = run.teacher_identity
    if name in ("sft", "reward", "pairs", "cache", "train", "f_dpg"):
        student = recipe.student.model_dump(mode="json", exclude={"device", "placement", "chat_template"})
        inputs["student"] = fingerprint(student)
        if run.student_identity is not None:
            inputs["student_weights"] = run.student_identity
    on = stages_of(run)
    for earlier in stage.needs:
        if earlier in on:
            made_from = inputs_of(run, earlier)
            made_from.pop(ADDED, None)
            inputs[earlier] = fingerprint(made_from)
    return inputs


def settings_identity(run: RunFolder, settings: Settings) -> str:
    """A fingerprint of what a section says about the result.

    How often a training logs and saves does not count, nor who fills a cache; a memory plan counts by its content; a
    cache's tiers stand apart, as `ADDED`.
    """
    if isinstance(settings, CacheSettings):
        return fingerprint(settings.model_dump(mode="json", exclude={"codec", *ORGANISATION}))
    if not isinstance(settings, TrainSettings):
        return fingerprint(settings.model_dump(mode="json"))
    shaping = settings.model_dump(mode="json", exclude=set(CADENCE))
    return fingerprint([shaping, memory_plan(settings_here(run, settings))])
