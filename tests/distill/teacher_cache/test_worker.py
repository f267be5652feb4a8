import copy
import errno
import logging
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from distill.data import TokenizedSequence
from distill.errors import CacheError, StageError
from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache, score_sequences, verify
from distill.teacher_cache.manifest import read_manifest


def score(teacher, sequences, settings, folder: Path, *, data_fingerprint: str = "data") -> TeacherCache:
    return score_sequences(teacher, sequences, settings=settings, output_dir=folder, data_fingerprint=data_fingerprint)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def stopping_after(teacher: LoadedModel, num_forwards: int, stop) -> LoadedModel:
    """The teacher with a hook that calls `stop` before one forward too many; the head's own probe is not counted."""
    model = copy.deepcopy(teacher.model)
    calls = [0]

    def count(module, args, kwargs) -> None:
        calls[0] += kwargs["input_ids"].numel() > 2
        if calls[0] > num_forwards:
            stop()

    model.model.register_forward_pre_hook(count, with_kwargs=True)
    return LoadedModel(model, teacher.tokenizer, teacher.source, teacher.fingerprint)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_cache_holds_every_sequence_and_is_sound(teacher, sequences, small_shards, tmp_path):
    cache = score(teacher, sequences, small_shards(), tmp_path / "c")
    assert sorted(cache.sequence_ids) == sorted(row.sequence_id for row in sequences)
    assert cache.manifest.num_shards > 2
    assert cache.manifest.num_tokens == sum(len(row.completion_ids) for row in sequences)
    assert verify(tmp_path / "c")["is_complete"]


def test_a_second_run_scores_nothing(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    score(stopping_after(teacher, 0, interrupt), sequences, small_shards(), tmp_path / "c")
    assert bytes_of(tmp_path / "c") == before


@pytest.mark.parametrize("codec", ["scores", "exact"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(teacher, sequences, small_shards, tmp_path, codec):
    settings = small_shards(codec=codec)
    with pytest.raises(KeyboardInterrupt):
        score(stopping_after(teacher, 3, interrupt), sequences, settings, tmp_path / "c")
    begun = read_manifest(tmp_path / "c")
    assert not begun.complete
    assert 0 < len(begun.shards) < begun.num_shards
    with pytest.raises(CacheError, match=f"not finished: {len(begun.shards)} of {begun.num_shards} shards"):
        TeacherCache.open(tmp_path / "c")
    score(teacher, sequences, settings, tmp_path / "c")
    score(teacher, sequences, settings, tmp_path / "whole")
    assert bytes_of(tmp_path / "c") == bytes_of(tmp_path / "whole")


def test_a_killed_run_loses_at_most_the_shard_it_was_at(teacher, sequences, small_shards, tmp_path):
    child = os.fork()
    if not child:
        killed = stopping_after(teacher, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
        score(killed, sequences, small_shards(), tmp_path / "c")
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    finished = {record.name for record in read_manifest(tmp_path / "c").shards}
    assert finished == {path.name for path in (tmp_path / "c" / "shards").glob("*.safetensors")} != set()
    score(teacher, sequences, small_shards(), tmp_path / "c")
    score(teacher, sequences, small_shards(), tmp_path / "whole")
    assert bytes_of(tmp_path / "c") == bytes_of(tmp_path / "whole")


def test_what_a_killed_run_left_half_written_is_removed(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    leftover = tmp_path / "c" / "shards" / ".00001.safetensors.0000.partial"
    leftover.write_bytes(b"half")
    score(teacher, sequences, small_shards(), tmp_path / "c")
    assert not leftover.exists()


def test_a_damaged_shard_and_a_damaged_head_are_written_anew(teacher, sequences, small_shards, tmp_path, caplog):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    for name in ("shards/00001.safetensors", "head.safetensors"):
        path = tmp_path / "c" / name
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    (tmp_path / "c" / "shards" / "00002.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        score(teacher, sequences, small_shards(), tmp_path / "c")
    assert "00001.safetensors is damaged and is written anew" in caplog.text
    assert bytes_of(tmp_path / "c") == before


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("codec", {"codec": "scores"}),
        ("hidden_dtype", {"hidden_dtype": "float32"}),
        ("shard_tokens", {"shard_tokens": 13}),
        ("max_length_tokens", {"max_length_tokens": 33}),
    ],
)
def test_other_settings_in_the_same_folder_are_refused_by_field(
    teacher, sequences, small_shards, tmp_path, field, changes
):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    with pytest.raises(CacheError, match=rf"{field} is .*, but .* is asked for"):
        score(teacher, sequences, small_shards(**changes), tmp_path / "c")
    assert bytes_of(tmp_path / "c") == before


def test_other_data_and_another_teacher_are_refused_by_field(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    other = LoadedModel(teacher.model, teacher.tokenizer, "other", "other-fingerprint")
    with pytest.raises(CacheError, match="teacher_fingerprint is 'tiny-fingerprint', but 'other-fingerprint' is"):
        score(other, sequences, small_shards(), tmp_path / "c")
    with pytest.raises(CacheError, match="data_fingerprint is 'data', but 'news' is"):
        score(teacher, sequences, small_shards(), tmp_path / "c", data_fingerprint="news")
    with pytest.raises(CacheError, match="sequences_fingerprint is"):
        score(teacher, sequences[1:], small_shards(), tmp_path / "c")


def test_batches_may_have_another_size_when_a_run_goes_on(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    score(teacher, sequences, small_shards(max_batch_tokens=64), tmp_path / "c")


def test_parts_without_manifest_are_refused(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    (tmp_path / "c" / "manifest.json").unlink()
    with pytest.raises(CacheError, match=r"holds parts of a cache without manifest\.json"):
        score(teacher, sequences, small_shards(), tmp_path / "c")


def test_no_sequences_make_no_cache(teacher, small_shards, tmp_path):
    with pytest.raises(CacheError, match="no sequences to score"):
        score(teacher, [], small_shards(), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_folder_in_use_is_refused(teacher, sequences, small_shards, tmp_path):
    (tmp_path / "c").mkdir()
    with FileLock(tmp_path / "c" / ".lock"), pytest.raises(StageError, match="in use by another process"):
        score(teacher, sequences, small_shards(), tmp_path / "c")


def test_a_disk_that_refuses_a_shard_leaves_the_earlier_ones_intact(teacher, sequences, small_shards, tmp_path):
    """A limit on file sizes stands in for a full disk: 590 tokens take 4720 bytes, which the kernel refuses."""
    long = TokenizedSequence((5,), (6,) * 590)
    settings = small_shards(codec="scores", shard_tokens=1, max_length_tokens=600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4500, hard))
    try:
        with pytest.raises(CacheError, match=rf"no room for .*00002.*{os.strerror(errno.EFBIG)}"):
            score(teacher, [*sequences[:2], long, sequences[2]], settings, tmp_path / "c")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = sorted(path.name for path in (tmp_path / "c" / "shards").iterdir())
    assert left == ["00000.safetensors", "00001.safetensors"]
    score(teacher, [*sequences[:2], long, sequences[2]], settings, tmp_path / "c")
    assert verify(tmp_path / "c")["num_shards"] == 4


def test_the_model_keeps_its_mode(teacher, sequences, small_shards, tmp_path):
    model = copy.deepcopy(teacher.model).train()
    training = LoadedModel(model, teacher.tokenizer, teacher.source, teacher.fingerprint)
    score(training, sequences[:2], small_shards(), tmp_path / "c")
    assert model.training


def test_another_version_of_a_library_is_said_when_a_run_goes_on(teacher, sequences, small_shards, tmp_path, caplog):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    path.write_text(path.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "0.1"'))
    with caplog.at_level(logging.WARNING):
        score(teacher, sequences, small_shards(), tmp_path / "c")
    assert "was begun with" in caplog.text
