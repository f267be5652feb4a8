"""The nodes of a Ray cluster fill one cache; Ray places the workers and starts those again that it loses."""

import importlib
import logging
import os
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.data import TokenizedSequence
from distill.errors import CacheError, DistillError, RecipeError
from distill.teacher_cache.disk import room_for
from distill.teacher_cache.reader import TeacherCache
from distill.teacher_cache.settings import CacheSettings, RaySettings
from distill.teacher_cache.shared_progress import SharedProgress
from distill.teacher_cache.teacher_source import TeacherSource
from distill.teacher_cache.worker import score_sequences

log = logging.getLogger(__name__)

MAX_RETRIES = 3
POLL_INTERVAL_S = 1.0


def run_on_ray(
    source: TeacherSource,
    sequences: Sequence[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """Fills a cache with `settings.ray.num_workers` Ray tasks, each of which loads the teacher and claims shards.

    A task whose node or process is lost is started again by Ray, up to 3 times, wherever there is room; what it was
    at is taken over when its lease is over. The cache's folder, and the model's where it is no hub id, must be on a
    file system that all nodes see at the same path, and `distill` be installed on all of them.

    Args:
        source: where each worker finds the model.
        sequences: prompts with completions; duplicates count once.
        settings: tiers and sizes; `ray` is set.
        output_dir: the cache's folder.
        data_fingerprint: of what the sequences were tokenized from.

    Raises:
        RecipeError: Ray is not installed, or there is no cluster at the address.
        CacheError: as `score_sequences`; or a node does not see the folder; or every worker was lost.
    """
    choice = settings.ray
    assert choice is not None
    ray = _imported()
    output_dir = output_dir.resolve()
    with (
        _connected(ray, choice),
        _marked(output_dir) as marker,
        SharedProgress(output_dir, settings) as progress,
    ):
        _warn_of_workers_without_place(ray.nodes(), choice)
        was_complete = progress.is_complete
        shared = ray.put(tuple(sequences))
        task = ray.remote(
            num_cpus=choice.num_cpus_per_worker, num_gpus=choice.num_gpus_per_worker, max_retries=MAX_RETRIES
        )(_work_on_node)
        inputs = (source.absolute(), shared, settings, str(output_dir), data_fingerprint, marker.name)
        pending = [task.remote(*inputs) for _ in range(choice.num_workers)]
        lost: list[str] = []
        try:
            while pending:
                done, pending = ray.wait(pending, timeout=POLL_INTERVAL_S)
                lost += [reason for ref in done if (reason := _reason_of_loss(ray, ref)) is not None]
                progress.poll()
                marker.touch()  # what is fresh is no garbage, however long the cluster has no room for a worker
                if pending and not was_complete and progress.is_complete:
                    log.info(
                        "%s: complete; %d workers of the cluster are not needed any more", output_dir, len(pending)
                    )
                    break
        finally:
            for ref in pending:
                ray.cancel(ref, force=True)
        if not progress.is_complete:
            raise CacheError(
                f"Ray lost all {choice.num_workers} workers on {output_dir}: {'; '.join(lost)}",
                why=f"it started each again {MAX_RETRIES} times",
                fix="look at the cluster (ray status); the same command goes on from here",
            )
    return TeacherCache.open(output_dir)


def _work_on_node(
    source: TeacherSource,
    sequences: Sequence[TokenizedSequence],
    settings: CacheSettings,
    output_dir: str,
    data_fingerprint: str,
    marker: str,
) -> None:
    """What runs on a node: all that `score_sequences` does in one process; the last to finish finishes for all."""
    folder = Path(output_dir)
    if not (folder / marker).exists():
        raise CacheError(
            f"{folder} of node {platform.node()} is not the folder of the process that started the job",
            why="workers find each other through the cache's folder",
            fix="put the output on a file system that all nodes see at the same path: output=/shared/DIR",
        )
    score_sequences(source.load(), sequences, settings=settings, output_dir=folder, data_fingerprint=data_fingerprint)


def _warn_of_workers_without_place(nodes: Sequence[Mapping[str, Any]], choice: RaySettings) -> None:
    """Says that no node there is could hold a worker: Ray waits without a word for one that can."""
    wanted = {"CPU": choice.num_cpus_per_worker, "GPU": choice.num_gpus_per_worker}
    offers = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(all(offer.get(name, 0) >= amount for name, amount in wanted.items()) for offer in offers):
        log.warning(
            "no node of the Ray cluster has the %g CPUs and %g GPUs that a worker takes; waiting for one that has "
            "(cache.ray.num_cpus_per_worker, cache.ray.num_gpus_per_worker)",
            wanted["CPU"],
            wanted["GPU"],
        )


def _imported() -> Any:
    """The library, with its reports of usage off unless they were asked for.

    Raises:
        RecipeError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise RecipeError(
            "cache.ray is set, and Ray is not installed",
            why=str(error),
            fix="pip install 'distill[ray]', or cache.ray=null cache.workers=N for this machine alone",
        ) from error


@contextmanager
def _connected(ray: Any, choice: RaySettings) -> Iterator[None]:
    """A connection to the cluster for the length of the block; one that is there already is used and kept."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=choice.address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"cache.ray.address is {choice.address}, and no Ray cluster can be reached there",
            why=str(error).strip().splitlines()[0],
            fix="ray start --head, then cache.ray.address=auto; or leave the address out to start one here",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _marked(folder: Path) -> Iterator[Path]:
    """A file in the cache's folder by which nodes tell that they see the same one."""
    marker = folder / f".ray-{uuid.uuid4().hex[:8]}"
    with room_for(marker, needed_bytes=0, left_bytes=0):
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _reason_of_loss(ray: Any, ref: Any) -> str | None:
    """None where a task came to its end; what a worker refused is raised here, a lost worker is told in words."""
    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DistillError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        log.warning("Ray gave a worker up (%s); the others go on without it", reason)
        return reason
    return None
