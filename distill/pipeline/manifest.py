"""The manifest of a stage: what it was made from, and whether it still stands."""

import datetime
import importlib.metadata
import platform
import shutil
import uuid
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill import __version__
from distill.errors import DataError, RecipeError
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
    """The stage's manifest, or None where the stage never started.

    Raises:
        RecipeError: the folder holds a manifest of something else, or a damaged one.
    """
    path = manifest_path(folder)
    if not path.exists():
        return None
    try:
        values = read_json(path)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise RecipeError(error.what, why="nothing else says what the stage was made from", fix=_fix(folder)) from error
    if values.get("format") != "distill-stage":
        raise RecipeError(
            f"{path} is not the manifest of a stage", why=f"{folder} belongs to something else", fix=_fix(folder)
        )
    return validated(StageManifest, values, source=str(path))


def write_manifest(folder: Path, manifest: StageManifest) -> None:
    """Writes the manifest, whole or not at all."""
    write_json(manifest_path(folder), manifest.model_dump(mode="json"))


def refuse_foreign(folder: Path) -> None:
    """Refuses to write a stage into a folder that holds anything but a stage.

    Raises:
        RecipeError: it is a file, or it holds files and no manifest of a stage.
    """
    if read_manifest(folder) is not None or not folder.exists():
        return
    foreign = "it is a file"
    if folder.is_dir():
        entries = sorted(path.name for path in folder.iterdir() if not _is_partial_manifest(path))
        if not entries:
            return
        foreign = f"it holds {entries[0]}" + (f" and {len(entries) - 1} more" if len(entries) > 1 else "")
    raise RecipeError(
        f"{folder} is in the way of the stage's folder: {foreign}, and no manifest of a stage",
        why="a stage that starts over deletes its folder",
        fix=_fix(folder),
    )


def clear_stage(folder: Path) -> None:
    """Removes a stage's folder; after a crash meanwhile the stage is whole or gone, never in between.

    Raises:
        RecipeError: the folder is not a stage's.
    """
    refuse_foreign(folder)
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.cleared"))
    for cleared in folder.parent.glob(f".{folder.name}.*.cleared"):
        shutil.rmtree(cleared)


def _is_partial_manifest(path: Path) -> bool:
    """What a crash while the first manifest was written leaves."""
    return path.name.startswith(".manifest.json.") and path.name.endswith(".partial")


def _fix(folder: Path) -> str:
    return f"move {folder} away, or choose another folder with output=DIR"
