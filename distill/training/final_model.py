"""The trained weights as a model folder, gathered where the ranks hold parts of them."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.files import replacing_folder
from distill.models import DTYPES, LoadedModel, save_model
from distill.models.world import World, import_deepspeed
from distill.training.settings import TrainSettings


def save_student(engine: Any, student: LoadedModel, folder: Path, *, settings: TrainSettings, world: World) -> None:
    """Writes the student (its adapters alone, where it has some) to `folder`; all ranks call this together."""
    weights = _gathered(engine, student, world=world) if engine.zero_optimization_stage() >= 3 else None
    if world.is_main:
        config = student.model.config
        used_cache = config.use_cache
        config.use_cache = True
        save_model(student.model, student.tokenizer, folder, dtype=DTYPES[settings.dtype], state_dict=weights)
        config.use_cache = used_cache
    world.wait()


def copy_model(source: Path, folder: Path, *, world: World) -> None:
    """Copies a model folder, whole or not at all; all ranks call this together."""
    if world.is_main:
        with replacing_folder(folder) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
    world.wait()


def _gathered(engine: Any, student: LoadedModel, *, world: World) -> dict[str, Tensor] | None:
    """The weights on the main rank's CPU, one gathered at a time; `None` on the others.

    Under ZeRO-3 each rank holds a part of every matrix. Of a student with adapters only what is trained is gathered,
    for nothing else is saved.
    """
    gathering = import_deepspeed().zero.GatheredParameters
    has_frozen = any(not weight.requires_grad for weight in engine.module.parameters())
    found: dict[str, Tensor] = {}
    copies: dict[int, Tensor] = {}
    for name, weight in student.model.state_dict(keep_vars=True).items():
        if has_frozen and not weight.requires_grad:
            continue
        if id(weight) not in copies:
            with gathering([weight], modifier_rank=None):
                copies[id(weight)] = weight.detach().cpu().clone() if world.is_main else weight.new_empty(0)
        found[name] = copies[id(weight)]
    return found if world.is_main else None
