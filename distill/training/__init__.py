"""The DeepSpeed student: settings, one function that trains, resumable."""

from distill.training.report import TrainReport
from distill.training.schedule import lr_at, num_steps
from distill.training.settings import TrainSettings
from distill.training.trainer import train
from distill.training.world import is_main_rank, wait_for_main_rank

__all__ = [
    "TrainReport",
    "TrainSettings",
    "is_main_rank",
    "lr_at",
    "num_steps",
    "train",
    "wait_for_main_rank",
]
