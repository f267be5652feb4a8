"""What a recipe says about training: objective, steps, batch, learning rate, memory plan, cadence."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from distill.objectives.table import ObjectiveSettings
from distill.settings import Settings

ScheduleName = Literal["cosine", "linear", "constant"]


class TrainSettings(Settings):
    """One training run; how it is spread over micro batches and ranks changes speed and memory, not the result."""

    objective: ObjectiveSettings
    learning_rate: float = Field(gt=0, description="peak, reached after the warm-up")
    num_epochs: float | None = Field(None, gt=0, description="passes over the examples; this or max_steps")
    max_steps: int | None = Field(None, gt=0, description="optimizer steps; this or num_epochs")
    global_batch_size: int = Field(gt=0, description="examples per optimizer step, over all ranks")
    micro_batch_size: int = Field(gt=0, description="examples per forward pass on one rank")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate climbs")
    schedule: ScheduleName = Field("cosine", description="how the rate falls after the warm-up")
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="where the rate falls to, as a share of learning_rate")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on matrices only")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decay rates of both moments")
    max_grad_norm: float = Field(1.0, gt=0, description="longest gradient, L2 over all parameters")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of weights and activations")
    deepspeed: Path | None = Field(None, description="a memory plan, for example ds_configs/zero2.json; none: stage 0")
    max_length_tokens: int = Field(512, gt=1, description="longest example; what is beyond is cut off")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    log_every_steps: int = Field(1, gt=0, description="steps between rows of metrics.jsonl")
    save_every_steps: int = Field(200, gt=0, description="steps between checkpoints")
    keep_last: int = Field(2, gt=0, description="checkpoints that are kept")
    evaluate_every_steps: int | None = Field(None, gt=0, description="steps between held-out losses; none: at the end")

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if (self.num_epochs is None) == (self.max_steps is None):
            raise ValueError("give either num_epochs or max_steps")
        return self

    @model_validator(mode="after")
    def _has_betas_below_one(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {list(self.betas)}: both must be at least 0 and below 1")
        return self

    @property
    def min_lr(self) -> float:
        """The learning rate that the schedule falls toward."""
        return self.learning_rate * self.min_lr_ratio
