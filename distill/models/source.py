"""Where a model's files are, and whether they are safe and whole before anything reads them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from distill.errors import DataError, ModelError
from distill.files import fingerprint, read_json, sha256_of_file

EMBEDDED = "embedded"
_WEIGHTS = "*.safetensors"
_DOWNLOADED = ["*.json", _WEIGHTS, "*.jinja", "*.model", "*.txt"]
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "adapter_model.bin")
_HASHED = ("config.json", "adapter_config.json", "quantized_base.json", "*.safetensors", "*.gguf")


@dataclass(frozen=True)
class ModelSource:
    """A model's files on this machine; `folder` is the file itself for a GGUF."""

    name: str
    folder: Path
    kind: Literal["model", "adapter", "gguf"]

    @property
    def fingerprint(self) -> str:
        """The hex sha256 over configuration and weights, so that a moved folder keeps its own."""
        if self.kind == "gguf":
            return sha256_of_file(self.folder)
        paths = sorted({path for pattern in _HASHED for path in self.folder.glob(pattern)})
        return fingerprint([[path.name, sha256_of_file(path)] for path in paths])


def find_source(name: str | Path, *, revision: str | None = None) -> ModelSource:
    """Finds a model by folder, GGUF file, the word `embedded`, or hub id, and checks its files.

    Raises:
        ModelError: nothing is there, or what is there is no model, is pickled, or is damaged.
    """
    source = locate(name, revision=revision)
    if source.kind != "gguf":
        read_model_json(source.folder / ("adapter_config.json" if source.kind == "adapter" else "config.json"))
        _check_weights(source.folder)
    return source


def locate(name: str | Path, *, revision: str | None = None, with_weights: bool = True) -> ModelSource:
    """Finds a model as `find_source` does, without a look at its configuration and weights.

    Args:
        name: as in `find_source`.
        revision: of a hub id.
        with_weights: whether weights are downloaded too; what is here already stays as it is.

    Raises:
        ModelError: nothing is there.
    """
    folder = _folder_of(name, revision=revision, with_weights=with_weights)
    if folder.suffix == ".gguf" and folder.is_file():
        return ModelSource(str(name), folder, "gguf")
    is_adapter = (folder / "adapter_config.json").exists() and not (folder / "config.json").exists()
    return ModelSource(str(name), folder, "adapter" if is_adapter else "model")


def adapter_base(source: ModelSource) -> str | Path:
    """The model that a folder of adapters was trained on; a relative path is also looked for beside the adapters.

    Raises:
        ModelError: the folder does not name it.
    """
    base = read_model_json(source.folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{source.folder / 'adapter_config.json'} names no base model",
            why="adapters are nothing without the weights they change",
            fix="set base_model_name_or_path to the folder of the base model",
        )
    beside = source.folder / base
    return beside if not Path(base).exists() and beside.exists() else base


def _folder_of(name: str | Path, *, revision: str | None, with_weights: bool) -> Path:
    if str(name) == EMBEDDED:
        from distill.embedded import teacher_folder

        return teacher_folder()
    path = Path(name)
    if path.exists():
        return path
    if isinstance(name, Path) or not _looks_like_hub_id(name):
        other = "" if isinstance(name, Path) else ", or name a hub id as owner/name"
        raise ModelError(f"model folder {name} does not exist", fix=f"check the path{other}")
    return _downloaded(name, revision=revision, with_weights=with_weights)


def _looks_like_hub_id(name: str) -> bool:
    owner, separator, rest = name.partition("/")
    return bool(separator and owner and rest) and "/" not in rest and owner[0] not in ".~" and "\\" not in name


def _downloaded(hub_id: str, *, revision: str | None, with_weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = _DOWNLOADED if with_weights else [pattern for pattern in _DOWNLOADED if pattern != _WEIGHTS]
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HFValidationError, OSError) as error:
        raise ModelError(
            f"model {hub_id} is neither a folder here nor a model on the hub that can be reached",
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            fix="check the name and the network, or give the path of a folder",
        ) from error


def read_model_json(path: Path) -> dict[str, object]:
    """Reads one of a model folder's JSON files.

    Raises:
        ModelError: it is missing or damaged.
    """
    if not path.exists():
        raise ModelError(
            f"{path.parent} is not a model folder", why=f"it has no {path.name}", fix="name the folder that holds it"
        )
    try:
        return read_json(path)
    except DataError as error:
        raise ModelError(error.what, why=error.why, fix="copy the model again") from error


def _check_weights(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [path for pattern in _PICKLED for path in sorted(folder.glob(pattern))]
        if pickled:
            raise ModelError(
                f"{folder} holds its weights as {pickled[0].name}, a pickle",
                why="a pickle runs code when it is read; only safetensors are loaded",
                fix="convert it once where you trust it: "
                'python -c "import sys, transformers; transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])'
                f'.save_pretrained(sys.argv[2])" {folder} NEW_FOLDER, then copy the tokenizer files',
            )
        raise ModelError(f"{folder} has no weights", why="no *.safetensors file is there", fix="copy the weights too")
    for path in (*files, *_indexed(folder)):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is missing or damaged", why=str(error), fix="copy or download the model again"
            ) from error


def _indexed(folder: Path) -> Iterator[Path]:
    """The shards an index names, so that a missing one is noticed."""
    for index in folder.glob("*.safetensors.index.json"):
        shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        yield from (folder / name for name in sorted(set(shards.values())))
