"""export.lock.json: what an artefact was made from and with, so that it can be made again."""

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path

from distill import __version__
from distill.files import write_json

LOCK = "export.lock.json"
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "gguf", "xllamacpp", "bitsandbytes")
OPTIONAL_LIBRARIES = ("llama-cpp-python", "torchao", "auto-round", "llmcompressor", "compressed-tensors")


def lock(artefact: str, *, inputs: Mapping[str, object]) -> dict[str, object]:
    """The contents of an artefact's lock file: no times and no paths, so that the same machine gives the same bytes.

    Args:
        artefact: name of the format.
        inputs: fingerprints and settings that decide the artefact's bytes.
    """
    return {
        "format": "distill-export-lock",
        "version": 1,
        "artefact": artefact,
        "inputs": dict(inputs),
        "versions": versions(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
    }


def write_lock(folder: Path, artefact: str, *, inputs: Mapping[str, object]) -> None:
    """Writes `folder`/export.lock.json."""
    write_json(folder / LOCK, lock(artefact, inputs=inputs))


def versions() -> dict[str, str]:
    """This project, Python and each library that shapes an artefact and is installed."""
    found = {"distill": __version__, "python": platform.python_version()}
    for name in (*LIBRARIES, *OPTIONAL_LIBRARIES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
