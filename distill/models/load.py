"""Loads any causal language model that transformers knows, from safetensors or GGUF, with its tokenizer."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from distill.errors import ModelError
from distill.files import fingerprint
from distill.models.adapters import LanguageModel
from distill.models.source import ModelSource, adapter_base, find_source
from distill.models.stopping import set_special_ids
from distill.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

DtypeName = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["nf4", "int8"]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass
class LoadedModel:
    """A model with its tokenizer, where it came from, and the sha256 of what it is made of."""

    model: LanguageModel
    tokenizer: "PreTrainedTokenizerBase"
    source: str
    fingerprint: str


def load_model(
    folder_or_id: str | Path,
    *,
    dtype: DtypeName = "float32",
    device: str = "auto",
    quantization: Quantization | None = None,
    revision: str | None = None,
) -> LoadedModel:
    """Loads a chat model in evaluation mode, ready to generate; no code from the folder ever runs.

    Args:
        folder_or_id: a model folder, a folder of LoRA adapters, a .gguf file, `embedded`, or a hub id.
        dtype: of weights and activations.
        device: `auto` is cuda where there is one, else cpu.
        quantization: bitsandbytes format the weights are converted to while loading.
        revision: of a hub id.

    Raises:
        ModelError: the model is missing, damaged, pickled, has no tokenizer or chat template, or cannot be built.
    """
    source = find_source(folder_or_id, revision=revision)
    if source.kind == "adapter":
        return _load_adapters(source, dtype=dtype, device=device, quantization=quantization)
    tokenizer = _gguf_tokenizer(source) if source.kind == "gguf" else load_tokenizer(source.folder)
    require_chat_template(tokenizer, source.folder)
    model = _build(source, dtype=dtype, device=resolved_device(device), quantization=quantization)
    set_special_ids(model, tokenizer)
    print_name = fingerprint([source.fingerprint, dtype, quantization])
    return LoadedModel(model.eval(), tokenizer, source.name, print_name)


def resolved_device(device: str) -> str:
    """The device that `auto` stands for; any other name as it is.

    Raises:
        ModelError: the device is not one of this machine.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ModelError(f"device is {device!r}", why="torch knows no such device", fix="device=auto") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device is {device!r}", why="torch sees no GPU on this machine", fix="device=auto")
    return device


def require_chat_template(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Refuses a tokenizer that cannot render a chat.

    Raises:
        ModelError: it has no chat template.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {folder} has no chat template",
            why="chats could not be turned into the text this model was trained on",
            fix=f"write its template to {folder / 'chat_template.jinja'}",
        )


def _build(source: ModelSource, *, dtype: str, device: str, quantization: Quantization | None) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    arguments: dict[str, Any] = {"dtype": DTYPES[dtype], "local_files_only": True, "trust_remote_code": False}
    if source.kind == "gguf":
        arguments["gguf_file"] = source.folder.name
    else:
        arguments["use_safetensors"] = True
    if quantization is not None:
        arguments |= {"quantization_config": _quantization_config(quantization, dtype), "device_map": {"": device}}
    folder = source.folder.parent if source.kind == "gguf" else source.folder
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(folder), **arguments)
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"the model in {source.folder} cannot be built",
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            fix="check its config.json against its weights",
        ) from error
    _keep_packed_weights(model)
    return model if is_quantized(model) else cast("PreTrainedModel", model.to(device))  # type: ignore[arg-type]


def is_quantized(model: LanguageModel) -> bool:
    """Whether bitsandbytes holds the linear layers' weights."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def _quantization_config(quantization: Quantization, dtype: str) -> object:
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPES[dtype]
    )


def _keep_packed_weights(model: "PreTrainedModel") -> None:
    """Keeps bitsandbytes from repacking 4-bit weights at the first forward on CPUs with AVX512_BF16.

    Repacked weights are saved and dequantized as garbage (bitsandbytes 0.49.2 to 0.50.2).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _gguf_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        str(source.folder.parent), gguf_file=source.folder.name, local_files_only=True
    )
    return tokenizer


def _load_adapters(
    source: ModelSource, *, dtype: DtypeName, device: str, quantization: Quantization | None
) -> LoadedModel:
    from peft import PeftModel
    from transformers import PreTrainedModel

    base = load_model(_base_path(source), dtype=dtype, device=device, quantization=quantization)
    if not isinstance(base.model, PreTrainedModel):
        raise ModelError(
            f"{source.folder} holds adapters for {base.source}, which are adapters themselves",
            why="adapters are loaded onto a whole model only",
            fix=f"merge {base.source} first (distill export MODEL --formats safetensors)",
        )
    try:
        model = PeftModel.from_pretrained(base.model, str(source.folder), is_trainable=False, use_safetensors=True)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise ModelError(f"the adapters in {source.folder} do not fit {base.source}", why=str(error)) from error
    own = (source.folder / "tokenizer.json").exists()
    tokenizer = load_tokenizer(source.folder) if own else base.tokenizer
    set_special_ids(base.model, tokenizer)
    return LoadedModel(model.eval(), tokenizer, source.name, fingerprint([base.fingerprint, source.fingerprint]))


def _base_path(source: ModelSource) -> str | Path:
    """The base as named; a relative path that does not exist here is tried beside the adapters."""
    base = adapter_base(source)
    beside = source.folder / base
    return beside if not Path(base).exists() and beside.exists() else base
