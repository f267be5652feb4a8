"""The DeepSpeed student: settings, one function that trains, resumable."""

from distill.models.world import is_main_rank, process_group, wait_for_main_rank
from distill.training.engine import memory_plan
from distill.training.identity import CADENCE
from distill.training.monitors import require_monitors
from distill.training.report import TrainReport
from distill.training.rollout import draws_answers, require_whole_weights
from distill.training.schedule import lr_at, num_steps
from distill.training.settings import TrainSettings
from distill.training.trainer import train

__all__ = [
    "CADENCE",
    "TrainReport",
    "TrainSettings",
    "draws_answers",
    "is_main_rank",
    "lr_at",
    "memory_plan",
    "num_steps",
    "process_group",
    "require_monitors",
    "require_whole_weights",
    "train",
    "wait_for_main_rank",
]
