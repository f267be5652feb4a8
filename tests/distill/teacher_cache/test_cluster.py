import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import distill.teacher_cache.cluster as cluster
from distill.errors import RecipeError
from distill.teacher_cache import CacheSettings, EncodedRows, HeadShape, verify
from distill.teacher_cache.cluster import fill_cache, require_one_way
from distill.teacher_cache.codecs import Codec
from distill.teacher_cache.plan import PlannedBatch
from distill.teacher_cache.scoring import TeacherIdentity
from distill.teacher_cache.teacher_source import TeacherSource
from tests.distill.teacher_cache import clusters
from tests.distill.teacher_cache.clusters import (
    DATA,
    filled,
    job_environment,
    saved_teacher,
    shard_bytes,
    some_sequences,
    some_settings,
)

SOURCE = TeacherSource("owner/name")
RAY = {"num_workers": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TeacherSource:
    return saved_teacher(tmp_path_factory.mktemp("cluster") / "model")


@pytest.fixture(scope="module")
def alone(source: TeacherSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache as one process fills it."""
    return filled(source, tmp_path_factory.mktemp("alone") / "cache").folder


def jobs(source: TeacherSource, folder: Path) -> list[str]:
    """The command line of one process over `folder`."""
    return [clusters.__file__, json.dumps({"model": source.model, "folder": str(folder)})]


@pytest.mark.slow
def test_array_jobs_need_no_coordinator(source: TeacherSource, alone: Path, tmp_path: Path):
    """The same command, started three times."""
    command = [sys.executable, *jobs(source, tmp_path / "cache")]
    started = [subprocess.Popen(command, env=job_environment(), stderr=subprocess.PIPE) for _ in range(3)]
    for process in started:
        _, err = process.communicate()
        assert process.returncode == 0, err[-4000:]
    assert shard_bytes(tmp_path / "cache") == shard_bytes(alone)
    verify(tmp_path / "cache")


@pytest.mark.slow
def test_every_rank_of_a_launcher_is_a_worker(source: TeacherSource, alone: Path, tmp_path: Path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, *jobs(source, tmp_path / "cache")]
    result = subprocess.run(command, env=job_environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    assert shard_bytes(tmp_path / "cache") == shard_bytes(alone)


class TwosScorer:
    """A scorer that is no model of ours."""

    identity = TeacherIdentity("twos", "tokens", "template", HeadShape(280, 0))
    head = None

    def shares_prompts(self, *, longest: int) -> bool:
        del longest
        return False

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        import torch

        values = torch.full((batch.num_tokens, 1), -2.0)
        return [EncodedRows(values.view(torch.uint8)) for _ in codecs]


def test_a_scorer_that_is_there_already_does_it_all_from_here(tmp_path: Path):
    settings = some_settings(codec="scores", workers=8)
    cache = fill_cache(
        TwosScorer(), some_sequences(), settings=settings, output_dir=tmp_path / "cache", data_fingerprint=DATA
    )
    assert cache.token_log_probs(cache.sequence_ids).eq(-2).all()


@pytest.mark.parametrize(
    ("changes", "placement", "way"),
    [
        ({}, "one-device", "_score_here"),
        ({"workers": 2}, "one-device", "run_workers"),
        ({"ray": RAY}, "one-device", "run_on_ray"),
        ({"ray": RAY}, "device-map", "run_on_ray"),
        ({}, "zero-3-offload", "score_in_lockstep"),
    ],
)
def test_settings_choose_the_way(changes: dict[str, object], placement: str, way: str):
    source = TeacherSource("owner/name", placement=placement)  # type: ignore[arg-type]
    settings = some_settings(**changes)
    require_one_way(source, settings, world_size=1)
    assert cluster._way_of(source, settings).__name__ == way


@pytest.mark.parametrize(
    ("changes", "placement", "world_size", "message"),
    [
        ({"workers": 2}, "one-device", 2, r"cache\.workers and a launcher both start workers"),
        ({"workers": 2, "ray": RAY}, "one-device", 1, r"cache\.workers and cache\.ray both start workers"),
        ({"workers": 2}, "zero-3", 1, r"teacher\.placement is zero-3, with cache\.workers\nwhy: .*\nfix: deepspeed"),
        ({"ray": RAY}, "zero-3", 1, r"teacher\.placement is zero-3, with cache\.ray"),
        ({"workers": 2}, "device-map", 1, r"teacher\.placement is device-map, with cache\.workers"),
        ({}, "device-map", 2, r"teacher\.placement is device-map, with a launcher"),
    ],
)
def test_ways_that_exclude_each_other_are_refused(
    changes: dict[str, object], placement: str, world_size: int, message: str
):
    source = TeacherSource("owner/name", placement=placement)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=message):
        require_one_way(source, CacheSettings.model_validate(changes), world_size=world_size)
