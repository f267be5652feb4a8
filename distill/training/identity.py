"""What makes two training runs the same one: everything that changes the weights, and nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from distill.files import fingerprint
from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache
from distill.training.feed import Examples
from distill.training.settings import TrainSettings

CADENCE = frozenset({"deepspeed", "log_every_steps", "save_every_steps", "keep_last"})


def training_fingerprint(
    student: LoadedModel,
    examples: Examples,
    settings: TrainSettings,
    *,
    seed: int,
    plan: Mapping[str, Any],
    caches: Sequence[TeacherCache | None],
    validation: Examples,
) -> str:
    """The sha256 over start, data, settings, seed, memory plan and caches.

    The memory plan counts by content, not by path; how often is logged and saved does not count.
    """
    fields = TrainSettings.model_fields.keys() - CADENCE
    return fingerprint(
        {
            "student": _start(student),
            "settings": settings.model_dump(mode="json", include=set(fields)),
            "seed": seed,
            "plan": plan,
            "examples": _content(examples),
            "validation": _content(validation),
            "caches": [None if cache is None else cache.manifest.model_dump(mode="json") for cache in caches],
        }
    )


def _start(student: LoadedModel) -> str:
    """The fingerprint of the student's files; a model that was never saved is known by its weights."""
    if student.fingerprint != "scratch":
        return student.fingerprint
    digest = hashlib.sha256()
    for name, weight in student.model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _content(examples: Examples) -> str:
    return fingerprint([repr(example) for example in examples])
