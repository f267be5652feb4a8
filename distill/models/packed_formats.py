"""Models that other quantizers have packed, read through transformers: torchao, auto-round, compressed-tensors."""

import importlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.errors import ModelError
from distill.extras import AUTO_ROUND, COMPRESSED_TENSORS, TORCHAO
from distill.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_READERS = {"torchao": TORCHAO, "auto-round": AUTO_ROUND, "compressed-tensors": COMPRESSED_TENSORS}


def packed_by(folder: Path) -> str | None:
    """Which of these quantizers packed the model in `folder`; None where none did, or it is no folder."""
    path = folder / "config.json"
    found = read_json(path).get("quantization_config") if path.is_file() else None
    method = found.get("quant_method") if isinstance(found, dict) else None
    return method if method in _READERS else None


@contextmanager
def reading_packed(folder: Path) -> Iterator[None]:
    """Inside, transformers may load the model in `folder`; the quantizer's own notices stay off the screen.

    auto-round casts the whole model to half precision where its layers are not known to compute in float32, rotary
    frequencies too. Its plain torch layers do compute in the dtype of their input, and are let.

    Raises:
        ModelError: the package that reads the format is not installed.
    """
    method = packed_by(folder)
    if method is None:
        yield
        return
    reader = _READERS[method]
    if importlib.util.find_spec(reader.module) is None:
        raise ModelError(
            f"the model in {folder} is packed by {method}", why=f"{reader.module} is not installed", fix=reader.install
        )
    with redirect_stderr(io.StringIO()):
        if method != "auto-round":
            yield
            return
        layers = _plain_layers()
        before = [layer.compute_dtype for layer in layers]
        try:
            for layer in layers:
                layer.compute_dtype = [*layer.compute_dtype, "float32"]
            logging.getLogger("autoround").setLevel(logging.ERROR)
            yield
        finally:
            for layer, dtypes in zip(layers, before, strict=True):
                layer.compute_dtype = dtypes


def _plain_layers() -> list["_Layer"]:
    rows = importlib.import_module("auto_round.inference.backend").BackendInfos
    return [rows[name] for name in ("auto_round:torch", "auto_round:torch_zp") if name in rows]


class _Layer:
    """auto-round's row for a kind of layer."""

    compute_dtype: list[str]


def settle(model: "PreTrainedModel", folder: Path, dtype: torch.dtype) -> "PreTrainedModel":
    """The model ready to compute in `dtype`: compressed-tensors unpacks at the first forward, which is done here.

    Raises:
        ModelError: it came in another dtype.
    """
    method = packed_by(folder)
    if method is None:
        return model
    if model.dtype != dtype:
        raise ModelError(
            f"{method} loads the model in {folder} as {model.dtype}, not as {dtype}",
            why="rotary frequencies were rounded with the weights",
            fix=_READERS[method].install,
        )
    if method == "compressed-tensors":
        with redirect_stderr(io.StringIO()), torch.inference_mode():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device))
    return model
