import logging
from pathlib import Path

import pytest

from distill.teacher_cache import TeacherCache
from distill.teacher_cache.shared_progress import SharedProgress
from tests.distill.teacher_cache.clusters import filled, saved_teacher, some_settings


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TeacherCache:
    folder = tmp_path_factory.mktemp("progress")
    return filled(saved_teacher(folder / "model"), folder / "cache")


def test_nothing_is_said_before_the_workers_have_a_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO), SharedProgress(tmp_path, some_settings()) as progress:
        progress.poll()
        assert not progress.is_complete
    assert not caplog.records


def test_a_shard_counts_when_every_tier_has_committed_it(cache: TeacherCache, caplog: pytest.LogCaptureFixture):
    record = cache.folder / "exact" / "00001.json"
    aside = record.rename(record.with_suffix(".aside"))
    with caplog.at_level(logging.INFO), SharedProgress(cache.folder, some_settings()) as progress:
        progress.poll()
        aside.rename(record)
        progress.poll()
        assert progress.is_complete
    total = cache.manifest.num_tokens
    assert f"{total} of {total}" in caplog.text


def test_a_tier_that_is_not_there_is_not_complete(cache: TeacherCache):
    assert not SharedProgress(cache.folder, some_settings(codec="top-k")).is_complete
