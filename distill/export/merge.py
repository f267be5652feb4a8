"""The student as one whole set of weights: LoRA merged in float32, cast once, reloaded and compared.

Tensors stream from the checkpoint's files to the artefact's: one is in memory at a time. Comparisons need a whole
model; there is one at a time, held as it is stored.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from distill.export.merged_tensors import AdapterFile, MergedTensors
from distill.export.reload import largest_difference, load_held, probe_logits
from distill.export.tensor_files import MAX_SHARD_BYTES, TensorFiles, one_dtype, stored_dtype, write_tensor_files
from distill.export.unquantized import quantization_method, require_unquantized
from distill.files import replacing_folder
from distill.models import (
    DTYPES,
    DtypeName,
    LanguageModel,
    LoadedModel,
    LoraDeltas,
    ModelSource,
    Quantization,
    adapter_base,
    find_source,
    has_adapters,
    load_model,
    quantization_of,
    recorded_base,
    save_model,
    save_without_weights,
    unpack_linears,
    why_not_plain_lora,
    without_adapters,
    without_memory,
)
from distill.numerics import widened

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_MERGED, _RELOADED = "the base with its adapters merged", "the model reloaded from disk"


@dataclass(frozen=True)
class MergeReport:
    """Largest absolute differences of logits; `merge_delta` is None where there was nothing to merge.

    `base_quantization` is the format that the adapters were trained on: the merged weights are what it stands for.
    """

    dtype: DtypeName
    merge_delta: float | None
    reload_delta: float
    base_quantization: Quantization | None = None


def write_merged(
    model_folder: Path, folder: Path, *, dtype: DtypeName, max_shard_bytes: int = MAX_SHARD_BYTES
) -> MergeReport:
    """Writes the model in `model_folder` to `folder` without adapters, its weights stored as `dtype`.

    Adapters are added, in float32, to the weights they were trained on, and the sum is rounded once: to the base's
    own, or, after QLoRA, to the numbers that its 4-bit weights stand for, which are never quantized again. An
    embedding that is also the head stays so, unless adapters changed one of the two.

    Args:
        model_folder: a model, or LoRA adapters.
        folder: replaced if it exists.
        dtype: of the stored weights.
        max_shard_bytes: of each weights file; more than one come with an index.

    Raises:
        ModelError: the model cannot be loaded.
        RecipeError: the whole model is quantized.
        ExportError: the merged model differs from base and adapters, or the reloaded one from the merged.
    """
    source = find_source(model_folder)
    require_unquantized(source)
    loaded = _load_narrow(source)
    quantization = quantization_of(without_adapters(loaded.model))
    expected = probe_logits(loaded.model) if has_adapters(loaded.model) else None
    reason = _why_in_memory(loaded.model, source)
    if reason is None:
        merge_delta, rounded = _stream(loaded, source, folder, expected, dtype=dtype, max_shard_bytes=max_shard_bytes)
    else:
        log.warning("%s is merged in memory as a whole: %s", model_folder, reason)
        merge_delta, rounded = _merge_in_memory(source, folder, expected, dtype=dtype)
    del loaded
    reloaded = probe_logits(load_held(folder, dtype=dtype).model)
    return MergeReport(dtype, merge_delta, largest_difference(rounded, reloaded, what=_RELOADED), quantization)


def _stream(
    loaded: LoadedModel,
    source: ModelSource,
    folder: Path,
    expected: Tensor | None,
    *,
    dtype: DtypeName,
    max_shard_bytes: int,
) -> tuple[float | None, Tensor]:
    """Writes tensor by tensor; `loaded` loses its weights.

    Returns:
        How far the merged float32 weights are from `expected`, and the logits of the rounded ones.
    """
    device = loaded.model.device
    base, merged = _merged_tensors(loaded.model, source)

    def stored(name: str) -> Tensor:
        tensor = merged.load(name)
        return tensor.to(DTYPES[dtype]) if tensor.is_floating_point() else tensor

    merge_delta = None
    if expected is not None:
        logits = probe_logits(base, lambda name, _: merged.load(name).to(device), device=device)
        merge_delta = largest_difference(expected, logits, what=_MERGED)
    rounded = probe_logits(base, lambda name, _: widened(stored(name)).to(device), device=device)
    shapes = {name: shape.cast_to(DTYPES[dtype]) for name, shape in merged.shapes.items()}
    with replacing_folder(folder) as unfinished:
        write_tensor_files(unfinished, shapes, stored, max_shard_bytes=max_shard_bytes)
        ties = merged.ties_embeddings
        save_without_weights(base, loaded.tokenizer, unfinished, dtype=DTYPES[dtype], ties_embeddings=ties)
    return merge_delta, rounded


def dtype_as_stored(source: ModelSource) -> DtypeName:
    """The dtype of the weights, or of those that adapters are added to; float32 where they are packed or mixed."""
    base = _base_of(source)
    if base.kind != "model" or quantization_method(base) is not None or recorded_base(source.folder) is not None:
        return "float32"
    return stored_dtype(base.folder)


def _base_of(source: ModelSource) -> ModelSource:
    return find_source(adapter_base(source)) if source.kind == "adapter" else source


def _load_narrow(source: ModelSource) -> LoadedModel:
    """The model, held in the dtype it is stored in wherever that saves memory and changes no number."""
    adapters = AdapterFile(source.folder) if source.kind == "adapter" else None
    base = _base_of(source)
    is_quantized = quantization_method(base) is not None or recorded_base(source.folder) is not None
    if base.kind != "model" or is_quantized:
        return load_model(source.folder)
    dtypes = {shape.dtype for shape in TensorFiles(base.folder).shapes.values() if shape.dtype.is_floating_point}
    dtypes |= set() if adapters is None else adapters.dtypes
    return load_held(source.folder, dtype=one_dtype(dtypes))


def _why_in_memory(model: LanguageModel, source: ModelSource) -> str | None:
    """Why tensors cannot be merged one at a time; None where they can."""
    base = _base_of(source)
    if base.kind == "gguf":
        return "its base is a GGUF"
    inner = without_adapters(model)
    on_disk = TensorFiles(base.folder).shapes.keys()
    if not has_adapters(model):
        return _why_other_names(_tensor_names(inner), on_disk, inner)
    reason = why_not_plain_lora(cast("PeftModel", model))
    if reason is not None:
        return f"the adapters are no plain LoRA: {reason}"
    unknown = AdapterFile(source.folder).whole.keys() - on_disk - _tied(inner).keys()
    return f"the adapters hold {min(unknown)}, which the base lacks" if unknown else None


def _why_other_names(names: set[str], on_disk: Collection[str], model: "PreTrainedModel") -> str | None:
    missing, unknown = names - set(on_disk) - _tied(model).keys(), set(on_disk) - names
    return f"{min(missing)} has another name on disk" if missing and unknown else None


def _tied(model: "PreTrainedModel") -> dict[str, str]:
    """Names of parameters that are others of the model, with the names of these."""
    return dict(model.all_tied_weights_keys) if model.config.tie_word_embeddings else {}


def _tensor_names(model: "PreTrainedModel") -> set[str]:
    return set(model.state_dict().keys())


def _merged_tensors(model: LanguageModel, source: ModelSource) -> tuple["PreTrainedModel", MergedTensors]:
    """The base without memory for its weights, and what they are to be."""
    base, adapters, in_memory = without_adapters(model), None, {}
    tied = _tied(base)
    files = TensorFiles(_base_of(source).folder)
    if has_adapters(model):
        deltas = LoraDeltas(cast("PeftModel", model))
        base, adapters = deltas.model, (AdapterFile(source.folder), deltas)
        if quantization_of(base) is not None:
            in_memory = _numbers_in_memory(base)
    without_memory(base)
    return base, MergedTensors(files, tied=tied, wanted=_tensor_names(base), adapters=adapters, in_memory=in_memory)


def _numbers_in_memory(quantized: "PreTrainedModel") -> dict[str, Callable[[], Tensor]]:
    """What a quantized model's tensors stand for; its packed layers make way for plain ones."""
    numbers = unpack_linears(quantized)
    for name, parameter in quantized.named_parameters():
        if name not in numbers:
            numbers[name] = partial(Tensor.detach, parameter)
    return numbers


def _merge_in_memory(
    source: ModelSource, folder: Path, expected: Tensor | None, *, dtype: DtypeName
) -> tuple[float | None, Tensor]:
    """Through peft, the whole model at once; returns as `_stream` does."""
    loaded = load_model(source.folder, dequantizes=True)
    model, merge_delta = loaded.model, None
    if expected is not None:
        model = cast(LanguageModel, cast("PeftModel", model).merge_and_unload(safe_merge=True))
        merge_delta = largest_difference(expected, probe_logits(model), what=_MERGED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(DTYPES[dtype]))
    save_model(model, loaded.tokenizer, folder, dtype=DTYPES[dtype])
    return merge_delta, probe_logits(model)
