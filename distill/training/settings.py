"""What a recipe says about training: objective, steps, batch, learning rate, memory plan, cadence."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from distill.objectives.table import OBJECTIVES, ObjectiveSettings
from distill.settings import Settings
from distill.training.monitors import MonitorSettings

ScheduleName = Literal["cosine", "linear", "constant"]


class TrainSettings(Settings):
    """One training run; how it is spread over micro batches and ranks changes speed and memory, not the result."""

    objective: ObjectiveSettings
    learning_rate: float = Field(gt=0, allow_inf_nan=False, description="peak, reached after the warm-up")
    num_epochs: float | None = Field(None, gt=0, description="passes over the examples; this or max_steps")
    max_steps: int | None = Field(None, gt=0, description="optimizer steps; this or num_epochs")
    global_batch_size: int = Field(gt=0, description="examples per optimizer step, over all ranks")
    max_tokens_per_pass: int = Field(
        8192, gt=0, description="tokens that one rank reads in a forward pass, a pair's prompt once; memory follows it"
    )
    micro_batch_size: int | None = Field(None, gt=0, description="most examples in such a pass; none: as many as fit")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate climbs")
    schedule: ScheduleName = Field("cosine", description="how the rate falls after the warm-up")
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="where the rate falls to, as a share of learning_rate")
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False, description="AdamW's, on matrices only")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decay rates of both moments")
    max_grad_norm: float = Field(1.0, gt=0, allow_inf_nan=False, description="longest gradient, L2 over all parameters")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of weights and activations; float16, with a loss scale, on GPUs only"
    )
    deepspeed: Path | None = Field(None, description="a memory plan, such as ds_configs/zero2_bf16.json; none: stage 0")
    max_length_tokens: int = Field(512, gt=1, description="longest example; what is beyond is cut off")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    log_every_steps: int = Field(1, gt=0, description="steps between rows of metrics.jsonl")
    save_every_steps: int = Field(200, gt=0, description="steps between checkpoints")
    keep_last: int = Field(2, gt=0, description="checkpoints that are kept")
    save_models: bool = Field(True, description="put a model folder, ready to load, into every checkpoint")
    evaluate_every_steps: int | None = Field(None, gt=0, description="steps between held-out losses; none: at the end")
    num_valid_pairs: int = Field(
        0, ge=0, description="pairs held out of training, at least; those of a prompt together"
    )
    keep_best: bool = Field(False, description="also keep the checkpoint with the lowest held-out loss")
    final_model: Literal["last", "best"] = Field("last", description="which step's weights the run ends with")
    stop_after: int | None = Field(None, gt=0, description="held-out losses without improvement that end the run")
    min_improvement: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="fall of the held-out loss, nats, that counts for stop_after"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="the run ends with a moving average of the weights; none: with the weights"
    )
    explosion_factor: float | None = Field(
        10.0,
        gt=1,
        allow_inf_nan=False,
        description="times its usual size (1 nat at least) at which a loss stops the run; null: at none",
    )
    checks_start: bool = Field(
        True, description="refuse a student that does not start as the reference of its cache; false: log it"
    )
    monitor: MonitorSettings = Field(MonitorSettings(), description="where metrics are shown beside metrics.jsonl")

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

    @model_validator(mode="after")
    def _chooses_by_losses_that_exist(self) -> Self:
        if self.final_model == "best" and not self.keep_best:
            raise ValueError("final_model is best, and no best checkpoint is kept (keep_best=true)")
        if self.stop_after is None and self.min_improvement > 0:
            raise ValueError(f"min_improvement is {self.min_improvement}, and nothing stops the run (stop_after=3)")
        wanted = [name for name in ("keep_best", "stop_after") if getattr(self, name)]
        if wanted and self.evaluate_every_steps is None:
            raise ValueError(
                f"{' and '.join(wanted)} compare held-out losses, and there is one, at the end "
                f"(evaluate_every_steps={self.save_every_steps})"
            )
        return self

    @model_validator(mode="after")
    def _holds_out_pairs_only(self) -> Self:
        if self.num_valid_pairs and OBJECTIVES[self.objective.name].examples != "pairs":
            raise ValueError(
                f"num_valid_pairs is {self.num_valid_pairs}, and objective {self.objective.name} learns from "
                "conversations, whose valid split is held out"
            )
        return self

    @property
    def min_lr(self) -> float:
        """The learning rate that the schedule falls toward."""
        return self.learning_rate * self.min_lr_ratio
