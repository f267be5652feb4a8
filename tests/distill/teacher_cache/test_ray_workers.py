import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distill.errors import CacheError, ModelError, RecipeError
from distill.teacher_cache import read_manifest, verify
from distill.teacher_cache.ray_workers import _warn_of_workers_without_place, _work_on_node, run_on_ray
from distill.teacher_cache.settings import RaySettings
from distill.teacher_cache.teacher_source import TeacherSource
from tests.distill.teacher_cache.clusters import (
    DATA,
    ROOT,
    filled,
    saved_teacher,
    shard_bytes,
    some_sequences,
    some_settings,
)

NUM_PROMPTS = 600
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two Ray nodes of one core each, on this machine."""
    pytest.importorskip("ray", reason="ray is in the extras `ray` and `test`; install distill[test]")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        yield made
    finally:
        import ray

        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_two_nodes_fill_a_cache_though_one_is_removed_meanwhile(cluster: Any, tmp_path: Path):
    source = saved_teacher(tmp_path / "model")
    second = cluster.add_node(**NODE)
    folder = tmp_path / "cache"
    writers: list[int] = []
    remover = threading.Thread(target=_remove_while_both_write, args=(cluster, second, folder, writers))
    remover.start()
    filled(source, folder, num_prompts=NUM_PROMPTS, ray={"address": cluster.address, "num_workers": 2})
    remover.join()
    assert len(writers) == 2, "the node was removed before the cache was complete, when both had written shards"
    filled(source, tmp_path / "alone", num_prompts=NUM_PROMPTS)
    assert shard_bytes(folder) == shard_bytes(tmp_path / "alone")
    verify(folder)


def _remove_while_both_write(cluster: Any, node: Any, folder: Path, writers: list[int]) -> None:
    """Takes a node away once two processes have committed shards and others are left to do; tells which."""
    started = time.monotonic()
    while time.monotonic() - started < 300:
        found = {_writer(path) for path in folder.glob("exact/*.json")}
        if len(found) > 1:
            if not read_manifest(folder).codecs:
                writers += found
            break
        time.sleep(0.01)
    cluster.remove_node(node, allow_graceful=False)


def _writer(path: Path) -> int:
    """The process that committed a shard."""
    return int(json.loads(path.read_bytes())["writing"]["process_id"])


@pytest.mark.slow
def test_what_a_node_refuses_is_raised_here(cluster: Any, tmp_path: Path):
    with pytest.raises(ModelError, match="does not exist|neither a folder"):
        filled(TeacherSource(str(tmp_path / "nowhere")), tmp_path / "cache", ray={"address": cluster.address})


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path):
    with pytest.raises(CacheError, match=r"is not the folder of the process that started the job\nwhy: .*\nfix: put"):
        _work_on_node(TeacherSource("m"), some_sequences(), some_settings(), str(tmp_path), DATA, ".ray-00000000")


@pytest.mark.parametrize(
    ("nodes", "has_place"),
    [
        ([{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}], True),
        ([{"Alive": False, "Resources": {"CPU": 8.0, "GPU": 2.0}}], False),
        ([{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"GPU": 2.0}}], False),
        ([], False),
    ],
)
def test_workers_that_no_node_can_hold_are_said(nodes: list[dict[str, Any]], has_place: bool, caplog: Any):
    choice = RaySettings(num_gpus_per_worker=2, num_cpus_per_worker=4)
    _warn_of_workers_without_place(nodes, choice)
    assert ("has the 4 CPUs and 2 GPUs that a worker takes; waiting" not in caplog.text) is has_place


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"cache\.ray is set, and Ray is not installed\nwhy: .*\nfix: pip install"):
        filled(TeacherSource("m"), tmp_path, ray={"num_workers": 1})


def test_a_cluster_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_options: object) -> None:
        raise ConnectionError("no route to 192.0.2.9")

    fake = ModuleType("ray")
    fake.is_initialized, fake.init = (lambda: False), refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", fake)
    settings = some_settings(ray={"address": "192.0.2.9:6379"})
    with pytest.raises(
        RecipeError, match=r"cache\.ray\.address is 192\.0\.2\.9:6379, and no Ray cluster can be reached"
    ):
        run_on_ray(TeacherSource("m"), [], settings=settings, output_dir=tmp_path, data_fingerprint=DATA)
    assert not list(tmp_path.iterdir())
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
