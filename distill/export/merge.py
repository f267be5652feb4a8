"""The student as one whole set of weights: LoRA merged in float32, cast once, reloaded and compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from distill.errors import ExportError
from distill.export.reload import largest_difference, probe_logits
from distill.models import DTYPES, DtypeName, LanguageModel, find_source, is_quantized, load_model, save_model

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class MergeReport:
    """Largest absolute differences of logits; `merge_delta` is None where there was nothing to merge."""

    dtype: DtypeName
    merge_delta: float | None
    reload_delta: float


def write_merged(model_folder: Path, folder: Path, *, dtype: DtypeName) -> MergeReport:
    """Writes the model in `model_folder` to `folder` without adapters, its weights stored as `dtype`.

    Adapters are added to the base's own weights, never to quantized ones, in float32, and the sum is rounded once.

    Raises:
        ModelError: the model cannot be loaded.
        ExportError: the model is quantized, the merged model differs from base and adapters, or the reloaded one
            from the merged.
    """
    loaded = load_model(model_folder, dtype="float32")
    if is_quantized(loaded.model) or find_source(model_folder).kind == "gguf":
        raise ExportError(
            f"{model_folder} is quantized already",
            why="rounding it again would add one format's errors to another's",
            fix="export the model it was made from",
        )
    model, merge_delta = _merged(loaded.model)
    _round_parameters(model, DTYPES[dtype])
    save_model(model, loaded.tokenizer, folder, dtype=DTYPES[dtype])
    reloaded = load_model(folder, dtype="float32")
    reload_delta = largest_difference(
        probe_logits(model), probe_logits(reloaded.model), what="the model reloaded from disk"
    )
    return MergeReport(dtype, merge_delta, reload_delta)


def _merged(model: LanguageModel) -> tuple[LanguageModel, float | None]:
    if not hasattr(model, "merge_and_unload"):
        return model, None
    with_adapters = probe_logits(model)
    merged = cast(LanguageModel, cast("PeftModel", model).merge_and_unload(safe_merge=True))
    delta = largest_difference(with_adapters, probe_logits(merged), what="the base with its adapters merged")
    return merged, delta


def _round_parameters(model: LanguageModel, dtype: torch.dtype) -> None:
    """Gives each float32 parameter the value that `dtype` can hold, so that memory and disk can be compared."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
