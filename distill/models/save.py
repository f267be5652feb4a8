"""Saves a model folder, whole or not at all, so that any transformers version and llama.cpp's tools can read it."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.files import replacing_folder
from distill.models.adapters import LanguageModel
from distill.models.quantized import record_base
from distill.models.quiet import quietly

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILE_MODE = 0o644
# Arguments of from_pretrained that transformers 5 saves as if they were the tokenizer's own.
_HOW_IT_WAS_LOADED = ("is_local", "local_files_only")


def save_model(
    model: LanguageModel,
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes weights (safetensors), configurations, tokenizer and chat template to `folder`.

    A model with adapters saves the adapters alone, with the path of their base and how it was quantized.

    Args:
        model: what to save; unchanged afterwards.
        tokenizer: saved beside it; its chat template goes to chat_template.jinja and into tokenizer_config.json.
        folder: replaced if it exists.
        dtype: storage type of floating weights; `None` keeps theirs.
        state_dict: weights to save in place of the model's own, for a model whose weights are spread over processes.
    """
    weights = None if state_dict is None else dict(state_dict)
    if dtype is not None:
        weights = _cast(weights or model.state_dict(), dtype)
    with replacing_folder(folder) as partial:
        with quietly():
            model.save_pretrained(str(partial), state_dict=weights)
        if dtype is not None:
            _say_dtype(partial / "config.json", dtype)
        record_base(model, partial)
        save_tokenizer(tokenizer, partial)
        make_readable(partial)


def save_without_weights(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    *,
    dtype: torch.dtype,
    ties_embeddings: bool,
) -> None:
    """Writes to `folder` all that `save_model` writes but the weights, which are written elsewhere.

    Args:
        model: its configuration; a quantization it was loaded with is left out.
        dtype: in which the weights are stored.
        ties_embeddings: whether embedding and head are one tensor.
    """
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.tie_word_embeddings = ties_embeddings
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(str(folder))
    _say_dtype(folder / "config.json", dtype)
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(str(folder))
    save_tokenizer(tokenizer, folder)
    make_readable(folder)


def make_readable(folder: Path) -> None:
    """Gives every file under `folder` the mode `FILE_MODE`."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(FILE_MODE)


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Writes the tokenizer's files; the chat template stands in both places where readers look for it."""
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(tokenizer.chat_template, str):
        config["chat_template"] = tokenizer.chat_template
    for name in _HOW_IT_WAS_LOADED:
        config.pop(name, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _say_dtype(path: Path, dtype: torch.dtype) -> None:
    """Writes the stored dtype into a configuration, which knows the model's own only."""
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": str(dtype).removeprefix("torch.")}
        path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def folder_size_bytes(folder: Path) -> int:
    """Bytes of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Casts floating weights; tensors that share memory (tied embeddings) go on sharing it."""
    done: dict[tuple[int, torch.Size], Tensor] = {}
    result = {}
    for name, tensor in weights.items():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in done:
            done[key] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        result[name] = done[key]
    return result
