"""LoRA adapters through `peft`, and the model underneath them."""

import sys
from typing import TYPE_CHECKING, Literal, TypeAlias, Union, cast

import torch
from pydantic import Field

from distill.errors import ModelError
from distill.models.quiet import quietly
from distill.settings import Settings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

LanguageModel: TypeAlias = Union["PreTrainedModel", "PeftModel"]


class LoraSettings(Settings):
    """Low-rank adapters that learn in place of the full weights (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(16, gt=0, description="columns of each low-rank factor")
    alpha: float = Field(32, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of adapter inputs dropped while training")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="names of the linear modules that get adapters; the output head is left out"
    )


def add_lora(model: "PreTrainedModel", settings: LoraSettings, *, seed: int) -> "PeftModel":
    """Freezes `model` and wraps it with fresh adapters that change nothing yet; equal seeds give equal adapters.

    The global random state is left as it was.

    Raises:
        ModelError: the model has adapters already, or no module bears a name in `settings.target_modules`.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if isinstance(model, PeftModel):
        raise ModelError(
            "the model has LoRA adapters already",
            why="adapters on adapters would be saved without the ones below",
            fix="merge them first (distill export MODEL --formats safetensors)",
        )
    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=cast(int, settings.alpha),
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
            # On a GPU too, peft draws on the CPU and moves the adapters afterwards.
            torch.default_generator.manual_seed(seed)
            return cast("PeftModel", get_peft_model(model, config))
    except ValueError as error:
        raise ModelError(
            f"lora.target_modules is {targets!r}", why=str(error), fix="name modules of this model, or all-linear"
        ) from error


def has_adapters(model: LanguageModel) -> bool:
    """Whether the model is a base with LoRA adapters."""
    return without_adapters(model) is not model


def let_adapters_learn(model: LanguageModel) -> None:
    """Adapters that were loaded learn on where they stand; a model without any stays as it is."""
    if has_adapters(model):
        cast("PeftModel", model).set_adapter("default")


def without_adapters(model: LanguageModel) -> "PreTrainedModel":
    """The transformers model itself; adapters injected into its layers stay active."""
    # Adapters are peft's, so it is imported already where a model has any; importing it takes seconds.
    peft = sys.modules.get("peft")
    return model.get_base_model() if peft is not None and isinstance(model, peft.PeftModel) else model
