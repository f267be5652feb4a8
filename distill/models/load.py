"""Loads any causal language model that transformers knows, from safetensors or GGUF, with its tokenizer."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from distill.errors import ModelError
from distill.files import fingerprint
from distill.models.adapters import LanguageModel
from distill.models.chat_template import read_chat_template
from distill.models.distributed import (
    Placement,
    cutting_weights,
    device_map_arguments,
    inference_plan,
    is_partitioned,
    require_loadable,
    with_gathering_hooks,
    with_head_in_reach,
)
from distill.models.packed_formats import reading_packed, settle
from distill.models.quantized import (
    Conversion,
    computing_in,
    dequantized,
    is_quantized,
    keep_weights_as_loaded,
    quantization_config,
    recorded_base,
)
from distill.models.quiet import quietly
from distill.models.source import ModelSource, adapter_base, find_source
from distill.models.stopping import set_special_ids
from distill.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

DtypeName = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


# transformers 5 reads weights in threads unless this variable of the environment is set.
_SEQUENTIAL = "HF_DEACTIVATE_ASYNC_LOAD"


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
    quantization: Conversion | None = None,
    revision: str | None = None,
    chat_template: Path | None = None,
    placement: Placement = "one-device",
    dequantizes: bool = False,
) -> LoadedModel:
    """Loads a chat model in evaluation mode, ready to generate; no code from the folder ever runs.

    Adapters that were trained on a quantized base are loaded onto that base, quantized as it was then.

    Args:
        folder_or_id: a model folder, a folder of LoRA adapters, a .gguf file, `embedded`, or a hub id.
        dtype: of weights and activations.
        device: `auto` is cuda where there is one, else cpu.
        quantization: format the weights are converted to while loading.
        revision: of a hub id.
        chat_template: a jinja file in place of the tokenizer's own template.
        placement: over which devices the weights are spread; other than on one device, `device` is not read.
        dequantizes: 4-bit weights become plain ones of the same numbers, for what cannot be done with packed ones.

    Raises:
        ModelError: the model is missing, damaged, pickled, has no tokenizer or chat template, or cannot be built.
    """
    source = find_source(folder_or_id, revision=revision)
    require_loadable(placement, kind=source.kind, quantization=quantization)
    base = _base_of(source)
    quantization, held_dtype = _as_trained_on(source, quantization, dtype=dtype)
    tokenizer = load_tokenizer(source.folder, chat_template=chat_template)
    require_chat_template(tokenizer, source.folder)
    if placement == "one-device":
        whole = _build(base, dtype=held_dtype, device=resolved_device(device), quantization=quantization)
    else:
        whole = _spread(base, dtype=held_dtype, quantization=quantization, placement=placement)
    if dequantizes and is_quantized(whole):
        whole = dequantized(whole, DTYPES[dtype])
    elif held_dtype != dtype or is_quantized(whole):
        # A quantized folder names the dtype that it was made to be multiplied in.
        whole = computing_in(whole, DTYPES[dtype])
    set_special_ids(whole, tokenizer)
    model = whole if base is source else _with_adapters(whole, source, base)
    made_of = _made_of(source, dtype=dtype, quantization=quantization, chat_template=chat_template)
    return LoadedModel(model.eval(), tokenizer, source.name, made_of)


def model_fingerprint(
    folder_or_id: str | Path,
    *,
    dtype: DtypeName = "float32",
    quantization: Conversion | None = None,
    revision: str | None = None,
    chat_template: Path | None = None,
) -> str:
    """The fingerprint that `load_model` would give; reads the files and builds nothing.

    Raises:
        ModelError: the model is missing or damaged.
    """
    source = find_source(folder_or_id, revision=revision)
    return _made_of(source, dtype=dtype, quantization=quantization, chat_template=chat_template)


def _made_of(
    source: ModelSource, *, dtype: DtypeName, quantization: Conversion | None, chat_template: Path | None
) -> str:
    base = _base_of(source)
    quantization, _ = _as_trained_on(source, quantization, dtype=dtype)
    made_of = fingerprint([base.fingerprint, dtype, quantization])
    if base is not source:
        made_of = fingerprint([made_of, source.fingerprint])
    if chat_template is not None:
        made_of = fingerprint([made_of, read_chat_template(chat_template)])
    return made_of


def _base_of(source: ModelSource) -> ModelSource:
    """The whole model that adapters change; a whole model is its own.

    Raises:
        ModelError: the base is missing, or is adapters itself.
    """
    if source.kind != "adapter":
        return source
    base = find_source(adapter_base(source))
    if base.kind == "adapter":
        raise ModelError(
            f"{source.folder} holds adapters for {base.name}, which are adapters themselves",
            why="adapters are loaded onto a whole model only",
            fix=f"merge {base.name} first (distill export MODEL --formats safetensors)",
        )
    return base


def _as_trained_on(
    source: ModelSource, quantization: Conversion | None, *, dtype: DtypeName
) -> tuple[Conversion | None, DtypeName]:
    """The format that adapters were trained on and the dtype it was made from; of other models what is asked for.

    Raises:
        ModelError: another format is asked for than adapters were trained on.
    """
    recorded = recorded_base(source.folder) if source.kind == "adapter" else None
    if recorded is None:
        return quantization, dtype
    if quantization not in (None, recorded.quantization):
        raise ModelError(
            f"quantization is {quantization}, and {source.folder} holds adapters trained on {recorded.quantization}",
            why="they mend the errors of that format, not of another",
            fix=f"quantization={recorded.quantization}, or merge them first (distill export MODEL --formats"
            " safetensors)",
        )
    return recorded.quantization, recorded.dtype


def resolved_device(device: str) -> str:
    """The device that `auto` stands for; any other name as it is.

    Raises:
        ModelError: the device is not one of this machine.
    """
    if device == "auto":
        # A launcher's ranks share the machine: each has the GPU of its number.
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
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
            fix=f"write its template to {folder / 'chat_template.jinja'}, or name a file: chat_template=FILE.jinja",
        )


def _build(source: ModelSource, *, dtype: str, device: str, quantization: Conversion | None) -> "PreTrainedModel":
    placing = {} if quantization is None else {"device_map": {"": device}}
    model = _from_files(source, dtype=dtype, quantization=quantization, placing=placing)
    return model if is_quantized(model) else cast("PreTrainedModel", model.to(device))


def _spread(
    source: ModelSource, *, dtype: DtypeName, quantization: Conversion | None, placement: Placement
) -> "PreTrainedModel":
    """The model over several devices, or over the ranks of a launcher."""
    if not is_partitioned(placement):
        placing = device_map_arguments()
        return with_head_in_reach(_from_files(source, dtype=dtype, quantization=quantization, placing=placing))
    plan = inference_plan(DTYPES[dtype], offload=placement == "zero-3-offload")
    with cutting_weights(plan):
        model = _from_files(source, dtype=dtype, quantization=None, placing={})
    return with_gathering_hooks(model, plan)


def _from_files(
    source: ModelSource, *, dtype: str, quantization: Conversion | None, placing: Mapping[str, Any]
) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    arguments: dict[str, Any] = {"dtype": DTYPES[dtype], "local_files_only": True, "trust_remote_code": False}
    if source.kind == "gguf":
        arguments["gguf_file"] = source.folder.name
    else:
        arguments["use_safetensors"] = True
    folder = source.folder.parent if source.kind == "gguf" else source.folder
    try:
        with quietly(), reading_packed(source.folder), _one_tensor_at_a_time():
            if quantization is not None:
                arguments["quantization_config"] = quantization_config(quantization, DTYPES[dtype])
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(folder), **arguments, **placing)
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"the model in {source.folder} cannot be built",
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            fix="check its config.json against its weights",
        ) from error
    keep_weights_as_loaded(model)
    return settle(model, source.folder, DTYPES[dtype])


@contextmanager
def _one_tensor_at_a_time() -> Iterator[None]:
    """On a CPU, no threads that read weights ahead of whoever converts them: how much memory they took was chance."""
    before = os.environ.get(_SEQUENTIAL)
    if not torch.cuda.is_available():
        os.environ[_SEQUENTIAL] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SEQUENTIAL, None)
        else:
            os.environ[_SEQUENTIAL] = before


def _with_adapters(model: "PreTrainedModel", source: ModelSource, base: ModelSource) -> "PeftModel":
    from peft import PeftModel

    try:
        with quietly():
            return cast(
                "PeftModel",
                PeftModel.from_pretrained(model, str(source.folder), is_trainable=False, use_safetensors=True),
            )
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise ModelError(f"the adapters in {source.folder} do not fit {base.name}", why=str(error)) from error
