"""The manifest of a stage: what it was made from, and whether it still stands."""

import datetime
import importlib.metadata
import platform
import shutil
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill import __version__
from distill.files import read_json, write_json
from distill.settings import Settings, validated

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "deepspeed",
    "datasets",
    "evaluate",
    "safetensors",
    "gguf",
)


class StageManifest(Settings):
    """One stage's inputs, settings, versions and outcome."""

    format: Literal["distill-stage"] = "distill-stage"
    version: Literal[1] = 1
    stage: str
    fingerprint: str
    status: Literal["running", "done"]
    inputs: dict[str, str]
    settings: dict[str, object]
    seed: int
    versions: dict[str, str]
    started: str
    elapsed_s: float = 0.0
    summary: dict[str, object] = Field(default_factory=dict)


def library_versions() -> dict[str, str]:
    """Versions of this project, of Python and of the libraries that shape results."""
    versions = {"distill": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def manifest_path(folder: Path) -> Path:
    """Where a stage's manifest stands."""
    return folder / "manifest.json"


def read_manifest(folder: Path) -> StageManifest | None:
    """The stage's manifest, or None where the stage never started."""
    path = manifest_path(folder)
    return validated(StageManifest, read_json(path), source=str(path)) if path.exists() else None


def write_manifest(folder: Path, manifest: StageManifest) -> None:
    """Writes the manifest, whole or not at all."""
    write_json(manifest_path(folder), manifest.model_dump(mode="json"))


def clear_stage(folder: Path) -> None:
    """Removes a stage's folder, the manifest first, so that a crash in between leaves no stage that looks done."""
    manifest_path(folder).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
