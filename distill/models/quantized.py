"""Weights that bitsandbytes holds in 4 or 8 bits."""

import logging
from typing import TYPE_CHECKING, Literal

import torch

from distill.models.adapters import LanguageModel

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

Quantization = Literal["nf4", "int8"]


def quantization_config(quantization: Quantization, dtype: torch.dtype) -> "BitsAndBytesConfig":
    """The library's settings for a format; 4-bit weights are multiplied in `dtype`."""
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def is_quantized(model: LanguageModel) -> bool:
    """Whether bitsandbytes holds the linear layers' weights."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def keep_weights_as_loaded(model: "PreTrainedModel") -> None:
    """Keeps bitsandbytes from repacking 4-bit weights at the first forward on CPUs with AVX512_BF16.

    Repacked weights are saved and dequantized as garbage (bitsandbytes 0.49.2 to 0.50.2). Its warning about every
    8-bit product in float32 is silenced as well.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
