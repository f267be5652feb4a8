"""The trained weights as a model folder, gathered first where the ranks hold parts of them."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from distill.models import DTYPES, LoadedModel, save_model
from distill.models.world import World, import_deepspeed
from distill.training.settings import TrainSettings


def save_final_model(engine: Any, student: LoadedModel, folder: Path, *, settings: TrainSettings, world: World) -> None:
    """Writes the student (its adapters alone, where it has some) to `folder`; all ranks call this together."""
    with _whole_weights(engine):
        if world.is_main:
            student.model.config.use_cache = True
            save_model(student.model, student.tokenizer, folder, dtype=DTYPES[settings.dtype])
    world.wait()


def _whole_weights(engine: Any) -> AbstractContextManager[object]:
    """Under ZeRO-3 each rank holds a part of every matrix; inside the block they are whole again."""
    if engine.zero_optimization_stage() < 3:
        return nullcontext()
    gathered: AbstractContextManager[object] = import_deepspeed().zero.GatheredParameters(
        list(engine.module.parameters()), modifier_rank=None
    )
    return gathered
