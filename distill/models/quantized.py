"""Weights that bitsandbytes holds in 4 or 8 bits, and which of them adapters were trained on."""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from distill.errors import DataError, ModelError
from distill.files import read_json, write_json
from distill.models.adapters import LanguageModel, without_adapters
from distill.settings import Settings

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig

Quantization = Literal["nf4", "int8"]
# What weights can be converted to while they are loaded; only bitsandbytes' formats can be trained on.
Conversion = Quantization | Literal["torchao-int8"]

RECORD_NAME = "quantized_base.json"


class QuantizedBase(Settings):
    """What adapters were trained on, a file beside them: the base's weights, held in `dtype` and then quantized."""

    format: Literal["distill-quantized-base"] = "distill-quantized-base"
    version: Literal[1] = 1
    quantization: Quantization
    dtype: Literal["float32", "bfloat16", "float16"]


def quantization_config(quantization: Conversion, dtype: torch.dtype) -> "BitsAndBytesConfig | TorchAoConfig":
    """The library's settings for a format; 4-bit weights are multiplied in `dtype`."""
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if quantization == "torchao-int8":
        int8_weights = importlib.import_module("torchao.quantization").Int8WeightOnlyConfig
        return TorchAoConfig(int8_weights(set_inductor_config=False))
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def is_quantized(model: LanguageModel) -> bool:
    """Whether bitsandbytes holds the linear layers' weights."""
    return quantization_of(model) is not None


def quantization_of(model: LanguageModel) -> Quantization | None:
    """The format in which bitsandbytes holds the linear layers' weights."""
    if getattr(model, "is_loaded_in_4bit", False):
        return "nf4"
    return "int8" if getattr(model, "is_loaded_in_8bit", False) else None


def keep_weights_as_loaded(model: "PreTrainedModel") -> None:
    """Keeps bitsandbytes from repacking 4-bit weights at the first forward on CPUs with AVX512_BF16.

    Repacked weights are saved and dequantized as garbage (bitsandbytes 0.49.2 to 0.50.2). Its warning about every
    8-bit product in float32 is silenced as well.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def computing_in(model: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """The quantized model with everything that is not packed held, and all multiplied, in `dtype`."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            state.dtype = dtype
    return model


def dequantized(model: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """The model with plain linear layers that hold the numbers its 4-bit weights stand for; it is taken apart."""
    from transformers.utils import logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()  # it tells at length what it was asked to do
    try:
        whole = cast("PreTrainedModel", computing_in(model, dtype).dequantize(dtype=dtype))
    finally:
        logging.set_verbosity(shown)
    whole.is_loaded_in_4bit = whole.is_loaded_in_8bit = False
    return whole


def unpack_linears(model: "PreTrainedModel") -> dict[str, Callable[[], Tensor]]:
    """Puts plain linear layers without memory in the place of packed ones.

    Returns:
        By the tensor's name, what gives the numbers that its packed weight stands for.
    """
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    def numbers_of(packed: nn.Linear) -> Callable[[], Tensor]:
        return lambda: cast(Tensor, dequantize_bnb_weight(packed.weight, getattr(packed, "state", None)))

    found = {}
    for path, module in list(model.named_modules()):
        if type(module).__name__ not in ("Linear4bit", "Linear8bitLt"):
            continue
        packed = cast(nn.Linear, module)
        plain = nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None, device="meta")
        plain.bias = packed.bias
        model.set_submodule(path, plain)
        found[f"{path}.weight"] = numbers_of(packed)
    return found


def record_base(model: LanguageModel, folder: Path) -> None:
    """Writes beside adapters on which quantized weights they were trained; of others nothing."""
    inner = without_adapters(model)
    quantization = quantization_of(inner)
    if inner is model or quantization is None:
        return
    states = (getattr(getattr(module, "weight", None), "quant_state", None) for module in inner.modules())
    held = next((state.dtype for state in states if state is not None), inner.dtype)
    record = {"quantization": quantization, "dtype": str(held).removeprefix("torch.")}
    write_json(folder / RECORD_NAME, QuantizedBase.model_validate(record).model_dump())


def recorded_base(folder: Path) -> QuantizedBase | None:
    """On which quantized weights the adapters in `folder` were trained; None: on the base's own.

    Raises:
        ModelError: the record is damaged, or of another version.
    """
    path = folder / RECORD_NAME
    if not path.exists():
        return None
    try:
        return QuantizedBase.model_validate(read_json(path))
    except (DataError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read",
            why=(str(error).strip().splitlines() or [""])[0],
            fix="copy the folder of the adapters again",
        ) from error
