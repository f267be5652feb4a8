"""Stage `f_dpg`: the student moves toward a target distribution, once along each divergence, and is measured."""

import logging
from collections.abc import Sequence

from distill.data import Conversation, read_conversations
from distill.errors import RecipeError
from distill.files import fingerprint, write_json
from distill.models import LoadedModel, load_model
from distill.models.world import World
from distill.pipeline.f_dpg_exam import FDpgExam
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start, settings_here, trainable_start
from distill.pipeline.teacher import load_teacher
from distill.progress import read_metrics
from distill.training.f_dpg_settings import FDpgSettings
from distill.training.f_dpg_target import Target, fitted
from distill.training.f_dpg_trainer import train_f_dpg
from distill.training.live_teacher import LiveTeacher, require_one_vocabulary
from distill.training.report import METRICS_NAME
from eval.f_dpg_figures import FDpgCurve, FDpgFigures, curve_of
from eval.f_dpg_picture import f_dpg_picture
from eval.pictures import write_picture

log = logging.getLogger(__name__)

RESULTS_NAME = "results.json"
PICTURE_NAME = "curves.svg"
START = "start"


def run_f_dpg(run: RunFolder) -> dict[str, object]:
    """Trains `DIVERGENCE/model` for each divergence; writes the figures of all, the start first, and their curves."""
    settings = run.recipe.f_dpg
    assert settings is not None
    settings = settings_here(run, settings)
    start = load_start(run)
    teacher = load_teacher(run) if settings.target.beta_teacher > 0 else None
    if teacher is not None:
        require_one_vocabulary(teacher, start)
    alone = World(0, 1, 0)
    readers = [
        None if model is None else LiveTeacher(model, max_tokens=settings.max_tokens_per_pass, world=alone)
        for model in (start, teacher)
    ]
    assert readers[0] is not None
    prompts = prompts_of(run, "prompts", settings)
    target = fitted(Target.of(settings.target, readers[0], readers[1]), start, prompts, settings, seed=run.recipe.seed)
    made_of = fingerprint([start.fingerprint, None if teacher is None else teacher.fingerprint])
    exam = FDpgExam(target, prompts_of(run, "test", settings), settings, seed=run.recipe.seed)
    exam.sit(START, start)
    curves: list[FDpgCurve] = []
    for divergence in settings.divergences:
        folder = run.stage("f_dpg") / divergence
        log.info("f_dpg: %s", divergence)
        train_f_dpg(
            trainable_start(run, load_start(run)),
            prompts,
            target=target,
            settings=settings,
            divergence=divergence,
            output_dir=folder,
            seed=run.recipe.seed,
            models_fingerprint=made_of,
        )
        exam.sit(divergence, _loaded(run, folder / "model"))
        curves.append(curve_of(divergence, read_metrics(folder / METRICS_NAME)))
    figures = _figures(target, exam, curves)
    write_json(run.stage("f_dpg") / RESULTS_NAME, figures.model_dump(mode="json"))
    write_picture(f_dpg_picture(figures), run.stage("f_dpg") / PICTURE_NAME)
    return {"divergences": list(settings.divergences), "picture": str(run.stage("f_dpg") / PICTURE_NAME)}


def _figures(target: Target, exam: FDpgExam, curves: Sequence[FDpgCurve]) -> FDpgFigures:
    labels = [moment.feature.label for moment in target.settings.moments]
    coefficients = [] if target.tilt is None else target.tilt.coefficients.tolist()
    return FDpgFigures(
        wanted={moment.feature.label: moment.mean for moment in target.settings.moments},
        fitted=dict(zip(labels, coefficients, strict=True)),
        of_target=exam.target_moments(),
        num_prompts=len(exam.prompts),
        num_samples=exam.settings.num_measured_samples,
        rows=exam.rows(),
        curves=tuple(curves),
    )


def prompts_of(run: RunFolder, role: str, settings: FDpgSettings) -> list[Conversation]:
    """The first questions of the data's conversations, with their system messages where these are kept.

    Raises:
        RecipeError: there are none.
    """
    kept = [
        first_question(row, keeps_system=settings.keeps_system) for row in read_conversations(run.conversations(role))
    ]
    kept = without_doubles(kept)
    if not kept:
        raise RecipeError(f"f_dpg needs {role}, and the data holds none", fix=f"data.num_{role}=200")
    return kept


def first_question(conversation: Conversation, *, keeps_system: bool) -> Conversation:
    """What a dialogue begins with: its system message, if kept, and the first user turn."""
    system = (conversation.system,) if keeps_system and conversation.system is not None else ()
    return Conversation(conversation.id, (*system, conversation.user_turns[0]), conversation.facts)


def without_doubles(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Each prompt once: its normaliser is one."""
    return list({conversation.messages: conversation for conversation in reversed(conversations)}.values())[::-1]


def _loaded(run: RunFolder, folder: object) -> LoadedModel:
    student = run.recipe.student
    return load_model(str(folder), dtype=student.dtype, device=student.device)
