"""The student as one whole set of weights: LoRA merged in float32, cast once, reloaded and compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from distill.errors import ExportError
from distill.export.reload import largest_difference, probe_logits
from distill.models import (
    DTYPES,
    DtypeName,
    LanguageModel,
    LoadedModel,
    Quantization,
    find_source,
    has_adapters,
    load_model,
    quantization_of,
    save_model,
)

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class MergeReport:
    """Largest absolute differences of logits; `merge_delta` is None where there was nothing to merge.

    `base_quantization` is the format that the adapters were trained on: the merged weights are what it stands for.
    """

    dtype: DtypeName
    merge_delta: float | None
    reload_delta: float
    base_quantization: Quantization | None = None


def write_merged(model_folder: Path, folder: Path, *, dtype: DtypeName) -> MergeReport:
    """Writes the model in `model_folder` to `folder` without adapters, its weights stored as `dtype`.

    Adapters are added, in float32, to the weights they were trained on, and the sum is rounded once: to the base's
    own, or, after QLoRA, to the numbers that its 4-bit weights stand for, which are never quantized again.

    Raises:
        ModelError: the model cannot be loaded.
        ExportError: the whole model is quantized, the merged model differs from base and adapters, or the reloaded
            one from the merged.
    """
    loaded = load_model(model_folder, dtype="float32")
    is_adapted = has_adapters(loaded.model)
    quantization = quantization_of(loaded.model)
    if (quantization is not None and not is_adapted) or find_source(model_folder).kind == "gguf":
        raise ExportError(
            f"{model_folder} is quantized already",
            why="rounding it again would add one format's errors to another's",
            fix="export the model it was made from",
        )
    expected = probe_logits(loaded.model) if is_adapted else None
    if quantization is not None:
        loaded = load_model(model_folder, dtype="float32", dequantizes=True)
    model, merge_delta = _merged(loaded, expected)
    _round_parameters(model, DTYPES[dtype])
    save_model(model, loaded.tokenizer, folder, dtype=DTYPES[dtype])
    reloaded = load_model(folder, dtype="float32")
    reload_delta = largest_difference(
        probe_logits(model), probe_logits(reloaded.model), what="the model reloaded from disk"
    )
    return MergeReport(dtype, merge_delta, reload_delta, quantization)


def _merged(loaded: LoadedModel, expected: torch.Tensor | None) -> tuple[LanguageModel, float | None]:
    """The model without adapters, and how far it is from the logits that are expected of base and adapters."""
    if expected is None:
        return loaded.model, None
    merged = cast(LanguageModel, cast("PeftModel", loaded.model).merge_and_unload(safe_merge=True))
    return merged, largest_difference(expected, probe_logits(merged), what="the base with its adapters merged")


def _round_parameters(model: LanguageModel, dtype: torch.dtype) -> None:
    """Gives each float32 parameter the value that `dtype` can hold, so that memory and disk can be compared."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
