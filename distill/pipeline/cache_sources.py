"""Where the models of a run's caches were loaded from, or which one a server had: a file beside the caches."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from distill.errors import CacheError, DataError
from distill.files import read_json, write_json
from distill.settings import Settings, validated
from distill.teacher_cache import EndpointTeacher, TeacherSource

SOURCES_NAME = "sources.json"


class CacheSources(Settings):
    """The file as it stands: a source for each cache, and for one that a server filled what the server called it."""

    teacher: TeacherSource | None = None
    reference: TeacherSource
    served_teacher: str | None = None


def write_sources(folder: Path, scorers: Mapping[str, TeacherSource | EndpointTeacher]) -> None:
    """Writes the file.

    Args:
        folder: of the stage, with one cache in it for each scorer.
        scorers: who fills the caches, by their names.

    Raises:
        EndpointError: a server does not say which model it has.
    """
    told: dict[str, object] = {}
    for name, scorer in scorers.items():
        if isinstance(scorer, TeacherSource):
            told[name] = _from(folder, scorer.absolute()).to_json()
        else:
            told[f"served_{name}"] = scorer.served_model
    write_json(folder / SOURCES_NAME, told)


def read_sources(folder: Path) -> CacheSources:
    """Reads the file that stands beside the caches in `folder`.

    Raises:
        CacheError: it is not there, or damaged.
        RecipeError: a value in it is wrong.
    """
    path = folder / SOURCES_NAME
    try:
        values = read_json(path)
    except DataError as error:
        raise CacheError(
            f"the caches in {folder} do not say where their models are: {error.what}",
            why="a run writes that file beside its caches; the prompts and the models are found through it",
            fix="name a cache in its run's folder, RUN/cache/teacher; or write the file again: distill cache RECIPE",
        ) from error
    sources = validated(CacheSources, values, source=str(path))
    found = {name: getattr(sources, name) for name in ("teacher", "reference")}
    here = {name: _at(folder, source) for name, source in found.items() if source is not None}
    return sources.model_copy(update=here)


def _from(folder: Path, source: TeacherSource) -> TeacherSource:
    """A model inside the run by its way from `folder`, so that a run can be moved as a whole."""
    if not Path(source.model).is_relative_to(folder.parent.resolve()):
        return source
    return replace(source, model=os.path.relpath(source.model, folder.resolve()))


def _at(folder: Path, source: TeacherSource) -> TeacherSource:
    if not source.model.startswith(".."):
        return source
    return replace(source, model=str((folder / source.model).resolve()))
