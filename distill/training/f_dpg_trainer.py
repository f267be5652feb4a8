"""Trains a student by f-DPG, with the engine, checkpoints and metrics of every other training."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distill.data import Conversation
from distill.errors import RecipeError
from distill.files import fingerprint
from distill.models import LoadedModel
from distill.models.world import process_group
from distill.objectives.f_generators import FDpgDivergence
from distill.training.engine import memory_plan, require_dtype_of_device, zero_stage
from distill.training.f_dpg_rollout import FDpgRollout
from distill.training.f_dpg_settings import FDpgSettings
from distill.training.f_dpg_target import Target
from distill.training.identity import training_fingerprint
from distill.training.monitors import require_monitors
from distill.training.report import TrainReport, finished_report
from distill.training.settings import TrainSettings
from distill.training.trainable import require_trainable
from distill.training.training_run import TrainingRun, pad_id_of

log = logging.getLogger(__name__)

NOT_OF_ONE_TRAINING = TrainSettings.model_fields.keys() | {
    "divergences",
    "num_measured_prompts",
    "num_measured_samples",
}
"""Settings that `training_fingerprint` knows, or that change nothing of a training along one divergence."""


def train_f_dpg(
    student: LoadedModel,
    prompts: Sequence[Conversation],
    *,
    target: Target,
    settings: FDpgSettings,
    divergence: FDpgDivergence,
    output_dir: Path,
    seed: int,
    models_fingerprint: str,
) -> TrainReport:
    """Moves the student toward the target along one divergence; its weights end in `output_dir/model`.

    Continues from the newest checkpoint; a finished run of the same settings, seed, prompts and models stands.

    Args:
        student: trained in place.
        prompts: conversations that end in a user's turn.
        target: with its moments fitted.
        settings: the recipe's section.
        divergence: one of `settings.divergences`.
        output_dir: gets metrics.jsonl, checkpoints/, model/ and train_report.json.
        seed: of order and draws.
        models_fingerprint: of the frozen start and, where the target has one, the teacher.

    Raises:
        RecipeError: there are no prompts, or the settings do not fit the student or the processes.
        TrainingError: the loss is not finite, or the newest checkpoint was made under other settings.
    """
    if not prompts:
        raise RecipeError("there are no prompts for f_dpg", fix="data.num_prompts=1000")
    require_trainable(student, settings)
    require_dtype_of_device(settings)
    require_monitors(settings.monitor)
    plan = memory_plan(settings)
    require_whole_student(settings)
    start = training_fingerprint(student, (), settings, seed=seed, plan=plan, caches=(), validation=())
    coefficients = None if target.tilt is None else target.tilt.coefficients.tolist()
    own = settings.model_dump(mode="json", include=FDpgSettings.model_fields.keys() - NOT_OF_ONE_TRAINING)
    identity = fingerprint([start, own, divergence, models_fingerprint, coefficients, [repr(p) for p in prompts]])
    finished = finished_report(output_dir, identity)
    if finished is not None:
        log.info("%s is trained already", output_dir)
        return finished
    proposal = None
    if settings.proposal == "offline":
        # Before the engine hangs its hooks on the parameters.
        proposal = replace(student, model=copy.deepcopy(student.model).eval())
    with process_group() as world:
        run = TrainingRun(
            student, settings, world=world, output_dir=output_dir, seed=seed, identity=identity, head=None
        )
        rollout = FDpgRollout(
            student,
            target,
            prompts,
            settings,
            divergence=divergence,
            seed=seed,
            world=world,
            form=run.form,
            pad_id=pad_id_of(student),
            proposal=proposal,
        )
        return run.to_the_end(rollout, num_examples=len(prompts), companion=rollout)


def require_whole_student(settings: FDpgSettings) -> None:
    """Refuses to draw answers from a student whose weights are cut over the ranks.

    Raises:
        RecipeError: the memory plan is ZeRO stage 3.
    """
    if zero_stage(memory_plan(settings)) >= 3:
        raise RecipeError(
            f"f_dpg draws answers from the student, and {settings.deepspeed} is ZeRO-3",
            why="ZeRO-3 gathers weights in a pass that all ranks make together, and ranks draw answers of different "
            "lengths",
            fix="f_dpg.deepspeed=ds_configs/zero2_offload.json",
        )
