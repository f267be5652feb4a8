import shutil
from pathlib import Path
from typing import Any

import torch

from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.manifest import write_manifest
from distill.training.identity import training_fingerprint
from tests.distill.training.examples import Scored, dialogues, new_student, settings


def identity(student: LoadedModel | None = None, **changes: Any) -> str:
    arguments = {
        "examples": dialogues(4),
        "settings": settings(),
        "seed": 1,
        "plan": {"zero_optimization": {"stage": 0}},
        "caches": (None, None),
        "validation": (),
    } | changes
    return training_fingerprint(
        student or new_student(), arguments.pop("examples"), arguments.pop("settings"), **arguments
    )


def test_the_same_inputs_are_the_same_run():
    assert identity() == identity()


def test_what_changes_the_weights_changes_the_identity():
    others = [
        identity(seed=2),
        identity(examples=dialogues(5)),
        identity(settings=settings(learning_rate=1e-4)),
        identity(settings=settings(objective={"name": "dpo"})),
        identity(plan={"zero_optimization": {"stage": 2}}),
        identity(new_student(1)),
    ]
    assert len({identity(), *others}) == 1 + len(others)


def test_how_often_is_logged_and_saved_does_not():
    assert identity(settings=settings(log_every_steps=5, save_every_steps=9, keep_last=1)) == identity()


def test_a_model_that_was_never_saved_is_known_by_its_weights():
    def unsaved(seed: int) -> LoadedModel:
        made = new_student(seed)
        return LoadedModel(made.model, made.tokenizer, "random start", "scratch")

    changed = unsaved(0)
    with torch.no_grad():
        next(iter(changed.model.parameters()))[0, 0] += 1
    assert identity(unsaved(0)) == identity(unsaved(0))
    assert len({identity(unsaved(0)), identity(unsaved(1)), identity(changed)}) == 3


def test_only_the_tiers_that_are_read_make_another_run(scored: Scored, tmp_path: Path):
    """`dadpo` reads log-probs of tokens: the tier of hidden states may come and go, `kd` reads it."""
    manifest = scored.teacher.manifest
    copy = Path(shutil.copytree(scored.teacher.folder, tmp_path / "c"))
    write_manifest(copy, manifest.model_copy(update={"tiers": manifest.tiers[:1], "versions": {"torch": "1"}}))
    without = TeacherCache.open(copy)
    assert (scored.teacher.tiers, without.tiers) == (("scores", "exact"), ("scores",))

    def of(name: str, cache: TeacherCache) -> str:
        return identity(settings=settings(objective={"name": name}), caches=(cache, scored.reference))

    assert of("dadpo", scored.teacher) == of("dadpo", without)
    assert of("kd", scored.teacher) != of("kd", without)
    assert of("dadpo", scored.teacher) != of("dadpo", scored.reference)


def test_how_a_batch_is_cut_and_recomputed_changes_nothing():
    """A run that ran out of memory goes on with smaller passes."""
    smaller = settings(micro_batch_size=2, max_tokens_per_pass=64, gradient_checkpointing=True)
    assert identity(settings=smaller) == identity()
