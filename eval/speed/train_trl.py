"""TRL's trainers at their best settings: what they share, their losses, and steps on order."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.speed.processes import StepServer


@dataclass(frozen=True)
class TrlSettings:
    """What may be set to make it faster without another result."""

    padding_multiple: int | None = None
    num_workers: int = 0

    def described(self) -> str:
        """In words."""
        padding = "no padding multiple" if self.padding_multiple is None else f"rows of {self.padding_multiple} tokens"
        return f"{padding}, {self.num_workers} loader processes"


DPO_CHOICES = (
    TrlSettings(),
    TrlSettings(padding_multiple=8),
    TrlSettings(padding_multiple=64),
    TrlSettings(num_workers=1),
)
GKD_CHOICES = tuple(choice for choice in DPO_CHOICES if choice.padding_multiple is None)
"""`GKDTrainer` takes no padding multiple."""


def is_installed() -> bool:
    """Whether there is a TRL to compare with."""
    return importlib.util.find_spec("trl") is not None


def shared_arguments(folder: Path, settings: TrlSettings, *, lr: float, num_steps: int) -> dict[str, Any]:
    """Arguments of every trainer: a constant rate, no decay, gradients clipped at 1, nothing logged or kept.

    What makes it fast is on: one fused update of AdamW (ours is the same), nothing computed twice in the backward pass
    (TRL's own default is to checkpoint activations). Its head that makes no table of logits needs no flag in
    `DPOTrainer`; `GKDTrainer` has none, and `DistillationTrainer`, which has, learns from answers it draws itself.
    `padding_free` is switched off by this version of TRL. Rows stand in the order of our feed, so that every batch is
    the same; grouping them by length would make other batches.
    """
    return {
        "output_dir": str(folder),
        "max_steps": num_steps,
        "learning_rate": lr,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "optim": "adamw_torch_fused",
        "activation_checkpointing": False,
        "dataloader_num_workers": settings.num_workers,
        "train_sampling_strategy": "sequential",
    }


def with_losses(trainer: Any) -> Any:
    """The trainer, with the loss of its last step where its log would round it."""

    class WithLosses(trainer):  # type: ignore[misc]
        last_loss = float("nan")

        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            loss = super().compute_loss(*arguments, **named)
            self.last_loss = float(loss.detach())
            return loss

    return WithLosses


def serve(trainer: Any, server: StepServer) -> None:
    """Trains as the server orders."""
    trainer.add_callback(_held_up_by(server, lambda: float(trainer.last_loss)))
    trainer.train()


def _held_up_by(server: StepServer, last_loss: Callable[[], float]) -> Any:
    """A callback that waits for orders when the trainer is built and after every step."""
    from transformers import TrainerCallback

    class HeldUp(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **named: Any) -> None:
            control.should_training_stop = not server.built(optimizer)

        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            control.should_training_stop = not server.stepped(last_loss())

    return HeldUp()


def trained(trainer: Any, folder: Path) -> float:
    """Trains to the end and saves the model; the loss of the last step."""
    trainer.train()
    trainer.save_model(str(folder))
    return float(trainer.last_loss)
