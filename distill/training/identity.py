"""What makes two training runs the same one: everything that changes the weights, and nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from distill.files import fingerprint
from distill.models import LoadedModel
from distill.teacher_cache import CODECS, SCORE_CODECS, CodecName, TeacherCache
from distill.training.cached_scores import tier_to_read
from distill.training.feed import Examples
from distill.training.settings import TrainSettings

CADENCE = frozenset(
    {"deepspeed", "log_every_steps", "save_every_steps", "keep_last", "keep_best", "save_models"}
    | {"explosion_factor", "checks_start", "monitor"}
    | {"max_tokens_per_pass", "micro_batch_size", "gradient_checkpointing"}
)
"""Settings that change what is written, checked or how fast, and the weights by rounding at most."""


def training_fingerprint(
    student: LoadedModel,
    examples: Examples,
    settings: TrainSettings,
    *,
    seed: int,
    plan: Mapping[str, Any],
    caches: Sequence[TeacherCache | None],
    validation: Examples,
    live_teacher: str | None = None,
) -> str:
    """The sha256 over start, data, settings, seed, memory plan, caches and the fingerprint of a live teacher.

    The memory plan counts by content, not by path. How often is logged and saved does not count, nor how a batch is
    cut: a run that ran out of memory goes on with smaller passes.
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
            "caches": [None if cache is None else _scores(cache, settings) for cache in caches],
            **({} if live_teacher is None else {"live_teacher": live_teacher}),
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


def _scores(cache: TeacherCache, settings: TrainSettings) -> dict[str, object]:
    """Whose scores of what, and the checksums of the tiers that training reads; other tiers change nothing."""
    read: list[CodecName | None] = [next((codec for codec in SCORE_CODECS if codec in cache.tiers), None)]
    read.append(tier_to_read(cache, settings))
    manifest = cache.manifest
    tiers = [manifest.complete_tiers[codec].model_dump(mode="json") for codec in read if codec is not None]
    made_from = manifest.model_dump(mode="json", exclude={"versions", "tiers", "head_sha256"})
    needs_head = any(CODECS[codec].needs_head for codec in read if codec is not None)
    return {**made_from, "tiers": tiers, "head": manifest.head_sha256 if needs_head else None}


def _content(examples: Examples) -> str:
    return fingerprint([repr(example) for example in examples])
