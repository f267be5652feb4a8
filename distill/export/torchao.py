"""The merged model with its linear layers in torchao's 8-bit integers, one scale a row."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from distill.export.reload import largest_difference, probe_logits
from distill.export.safetensors_header import METADATA, header_bytes, read_header
from distill.files import replacing_file
from distill.models import load_model, save_model
from distill.models.save import FILE_MODE


def write_torchao(merged_folder: Path, folder: Path) -> Mapping[str, object]:
    """Quantizes the model in `merged_folder` and writes it to `folder`; the embedding and the head stay as they are.

    Returns:
        As `reload_delta` the largest absolute difference of logits between the quantized model in memory and the one
        reloaded.

    Raises:
        ModelError: the model cannot be loaded or quantized.
        ExportError: the reloaded model differs.
    """
    quantized = load_model(merged_folder, dtype="float32", quantization="torchao-int8")
    expected = probe_logits(quantized.model)
    save_model(quantized.model, quantized.tokenizer, folder)
    for path in sorted(folder.glob("*.safetensors")):
        sort_metadata(path)
    reloaded = load_model(folder, dtype="float32")
    return {
        "reload_delta": largest_difference(expected, probe_logits(reloaded.model), what="the model reloaded from disk")
    }


def sort_metadata(path: Path) -> None:
    """Writes a safetensors file anew with its metadata in order: torchao and safetensors leave it to hash seeds."""
    with path.open("rb") as stream, replacing_file(path) as partial:
        header = read_header(stream)
        told = header.pop(METADATA, {})
        header = {METADATA: {name: _in_order(told[name]) for name in sorted(told)}, **header}
        with partial.open("wb") as target:
            target.write(header_bytes(header))
            shutil.copyfileobj(stream, target)
    path.chmod(FILE_MODE)


def _in_order(value: str) -> str:
    """One value; where it is JSON, with its names of parts sorted."""
    try:
        told = json.loads(value)
    except ValueError:
        return value
    if isinstance(told, dict):
        names = told.get("_tensor_data_names")
        told = {**told, "_tensor_data_names": sorted(names)} if isinstance(names, list) else told
    elif isinstance(told, list) and all(isinstance(name, str) for name in told):
        told = sorted(told)
    return json.dumps(told, sort_keys=True)
