"""A tiny f-DPG run: random prompts, a random student, half of whose answers are to hold an e."""

from pathlib import Path

from distill.data import Conversation, Message
from distill.models.world import World
from distill.training.f_dpg_settings import FDpgSettings
from distill.training.f_dpg_target import Target, fitted
from distill.training.f_dpg_trainer import train_f_dpg
from distill.training.live_teacher import LiveTeacher
from distill.training.report import TrainReport
from tests.distill.training.examples import new_student

ALONE = World(0, 1, 0)
HALF_E = {"moments": [{"feature": {"name": "contains", "value": "e"}, "mean": 0.5}]}
TEXTS = ("a tea", "one latte", "thank you")
PROMPTS = [Conversation(f"p{n}", (Message("user", text),)) for n, text in enumerate(TEXTS)]


def f_dpg_settings(**changes: object) -> FDpgSettings:
    """Four steps of two prompts with eight answers of four tokens each."""
    defaults: dict[str, object] = {
        "target": HALF_E,
        "learning_rate": 3e-3,
        "max_steps": 4,
        "global_batch_size": 2,
        "num_samples": 8,
        "max_new_tokens": 4,
        "max_length_tokens": 64,
        "num_fit_prompts": 3,
        "num_fit_samples": 64,
        "num_measured_prompts": 3,
        "num_measured_samples": 8,
    }
    return FDpgSettings.model_validate(defaults | changes)


def target_of(settings: FDpgSettings, *, is_fitted: bool = True) -> Target:
    """The target on top of a frozen copy of the student."""
    base = new_student()
    reader = LiveTeacher(base, max_tokens=1024, world=ALONE)
    teacher = None
    if settings.target.beta_teacher > 0:
        teacher = LiveTeacher(new_student(1), max_tokens=1024, world=ALONE)
    target = Target.of(settings.target, reader, teacher)
    return fitted(target, base, PROMPTS, settings, seed=5) if is_fitted else target


def trained(output: Path, settings: FDpgSettings, *, target: Target | None = None) -> TrainReport:
    """A run along the first of the divergences."""
    return train_f_dpg(
        new_student(),
        PROMPTS,
        target=target_of(settings) if target is None else target,
        settings=settings,
        divergence=settings.divergences[0],
        output_dir=output,
        seed=3,
        models_fingerprint="start",
    )
