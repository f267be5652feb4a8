"""Fills a cache with as many workers as the settings and the launcher say; all of them meet in the cache's folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.data import TokenizedSequence
from distill.errors import RecipeError
from distill.models.distributed import is_partitioned
from distill.teacher_cache.local_workers import run_workers
from distill.teacher_cache.lockstep import score_in_lockstep
from distill.teacher_cache.ray_workers import run_on_ray
from distill.teacher_cache.reader import TeacherCache
from distill.teacher_cache.scoring import Scorer
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.teacher_source import TeacherSource
from distill.teacher_cache.worker import score_sequences


def fill_cache(
    source: TeacherSource | Scorer,
    sequences: Sequence[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """Scores each distinct sequence once, by whoever is there to do it, and returns the finished cache.

    - One process: `score_sequences`. The same command started many times over one folder, by hand or as a
      scheduler's array job, needs nothing else: the processes share the shards through claims.
    - A launcher (torchrun, deepspeed): every rank is such a process, on the GPU of its local rank.
    - `settings.workers`: that many processes on this machine; a launcher within one command.
    - `settings.ray`: the nodes of a Ray cluster.
    - A model cut by ZeRO-3: all ranks of the launcher make one worker.

    Args:
        source: where each worker finds the model; or a scorer that is there already, such as a server, which then
            does it all from this process.
        sequences: prompts with completions; duplicates count once.
        settings: tiers, sizes, and who works.
        output_dir: the cache's folder.
        data_fingerprint: of what the sequences were tokenized from.

    Raises:
        RecipeError: the ways to run many are combined in a way that has no meaning.
        CacheError: as `score_sequences`.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    require_one_way(source, settings, world_size=world_size)
    way: Callable[..., TeacherCache] = score_sequences
    if isinstance(source, TeacherSource):
        way = _way_of(source, settings)
    return way(source, sequences, settings=settings, output_dir=output_dir, data_fingerprint=data_fingerprint)


def _way_of(source: TeacherSource, settings: CacheSettings) -> Callable[..., TeacherCache]:
    """Which function does the work; all take the same arguments."""
    if is_partitioned(source.placement):
        return score_in_lockstep
    if settings.ray is not None:
        return run_on_ray
    if settings.workers > 1:
        return run_workers
    return _score_here


def _score_here(
    source: TeacherSource,
    sequences: Sequence[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """This process as one worker: the only one, a rank of a launcher, or a task of an array job."""
    loaded = source.load(worker=int(os.environ.get("LOCAL_RANK", "0")))
    return score_sequences(
        loaded, sequences, settings=settings, output_dir=output_dir, data_fingerprint=data_fingerprint
    )


def require_one_way(source: TeacherSource | Scorer, settings: CacheSettings, *, world_size: int) -> None:
    """Refuses combinations in which workers would fight for devices, or wait for ranks that are not there.

    Raises:
        RecipeError: names the two that exclude each other.
    """
    asked = [
        name
        for name, is_asked in (
            ("cache.workers", settings.workers > 1),
            ("cache.ray", settings.ray is not None),
            ("a launcher", world_size > 1),
        )
        if is_asked
    ]
    if len(asked) > 1:
        raise RecipeError(
            f"{' and '.join(asked)} both start workers",
            why="each has its own way to place them",
            fix="keep one: cache.workers=1 for a launcher or Ray, cache.ray=null for this machine",
        )
    if not isinstance(source, TeacherSource) or source.placement == "one-device":
        return
    if is_partitioned(source.placement) and asked not in ([], ["a launcher"]):
        raise RecipeError(
            f"teacher.placement is {source.placement}, with {asked[0]}",
            why="ZeRO-3 cuts one model over the ranks of a launcher",
            fix="deepspeed --num_gpus N --module distill cache RECIPE, with cache.workers=1 and cache.ray=null",
        )
    if source.placement == "device-map" and asked in (["cache.workers"], ["a launcher"]):
        raise RecipeError(
            f"teacher.placement is device-map, with {asked[0]}",
            why="one such model takes all GPUs of the machine",
            fix="cache.workers=1, one machine a worker; or cache.ray with num_gpus_per_worker",
        )
