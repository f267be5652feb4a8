"""Many workers on one cache, killed at random points: what comes out is what one undisturbed worker writes."""

import copy
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache, score_sequences, verify
from distill.teacher_cache.claim_owner import owner_of
from distill.teacher_cache.shard_records import read_committed_shard
from tests.distill.teacher_cache.clusters import DATA, saved_teacher, some_sequences, some_settings

NUM_KILLS, NUM_PROMPTS = 20, 90
NO_ROOM, MAX_FILE_BYTES = 7, 400
LEASE_S = 0.5
# A shard for each prompt's two completions; rows of one size, rows that vary, and a tier with a head.
SETTINGS = some_settings(codec=("scores", "exact", "sampled"), shard_tokens=1, lease_s=LEASE_S)
# Its processes are forked from one that has imported all they need, and computed nothing.
FORKS = multiprocessing.get_context("forkserver")
IMPORTED = [__name__, "transformers.models.llama.modeling_llama"]


def one_pass_a_kill(kills: Path) -> Callable[[], None]:
    """Holds a worker back until another one was killed, so that all kills come while there is work; `kills` counts."""
    seen = [0]
    parent = multiprocessing.parent_process()
    assert parent is not None

    def hook() -> None:
        with suppress(FileNotFoundError):
            while kills.stat().st_size <= seen[0] and parent.is_alive():
                time.sleep(0.01)
            seen[0] = kills.stat().st_size

    return hook


def worker(teacher: LoadedModel, folder: Path, kills: Path | None = None, max_file_bytes: int | None = None) -> None:
    """What a process does; it leaves with 0 when the cache is finished."""
    torch.set_num_threads(1)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    if kills is not None:
        hook = one_pass_a_kill(kills)
        teacher = LoadedModel(copy.deepcopy(teacher.model), teacher.tokenizer, teacher.source, teacher.fingerprint)
        teacher.model.model.register_forward_pre_hook(lambda module, args: hook())
    sequences = some_sequences(NUM_PROMPTS)
    try:
        score_sequences(teacher, sequences, settings=SETTINGS, output_dir=folder, data_fingerprint=DATA)
    except CacheError as error:
        raise SystemExit(NO_ROOM if "no room for" in error.what else 1) from error


def started(*inputs: object) -> BaseProcess:
    process = FORKS.Process(target=worker, args=inputs)
    process.start()
    return process


def exit_code(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def claims_of(process: BaseProcess, folder: Path) -> list[Path]:
    """The claims that a process holds."""
    found = []
    for path in (folder / "claims").glob("*.json"):
        with suppress(FileNotFoundError):
            owner = owner_of(path.read_bytes())
            found += [path] if owner is not None and owner.process_id == process.pid else []
    return found


def killed(victim: BaseProcess, folder: Path, *, after_s: float, is_elsewhere: bool) -> int | None:
    """Kills a worker so long after it was seen to claim a shard; what it held is then that of another host's worker."""
    while not claims_of(victim, folder):
        assert victim.is_alive(), f"it left with {victim.exitcode} before it was killed"
        time.sleep(0.01)
    time.sleep(after_s)
    victim.kill()
    code = exit_code(victim)
    for path in claims_of(victim, folder) if is_elsewhere else []:
        with suppress(FileNotFoundError):
            times = path.stat()
            path.write_text(f'{{"worker": "gone", "lease_s": {LEASE_S}}}')
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return code


@pytest.mark.slow
def test_workers_killed_twenty_times_write_what_one_worker_writes(tmp_path):
    FORKS.set_forkserver_preload(IMPORTED)
    folder, whole, kills, draw = tmp_path / "c", tmp_path / "whole", tmp_path / "kills", random.Random(2)
    teacher = saved_teacher(tmp_path / "model").load()
    assert exit_code(started(teacher, whole)) == 0
    shard_s = _seconds_of_a_shard(whole)
    kills.touch()
    steady = [started(teacher, folder, kills) for _ in range(2)]
    try:
        for number in range(NUM_KILLS):
            victim = started(teacher, folder)
            code = killed(victim, folder, after_s=draw.uniform(0, 1.5 * shard_s), is_elsewhere=number % 4 == 0)
            assert code == -9, f"worker {number} left with {code}"
            kills.write_bytes(b"." * (number + 1))
        assert exit_code(started(teacher, folder, None, MAX_FILE_BYTES)) == NO_ROOM
    finally:
        kills.unlink()
        codes = [exit_code(process) for process in steady]
    assert codes == [0, 0]
    assert _result(folder) == _result(whole)
    assert not list((folder / "claims").glob("*.json"))
    assert verify(folder)["is_complete"]
    assert sorted(TeacherCache.open(folder).sequence_ids) == sorted(
        row.sequence_id for row in some_sequences(NUM_PROMPTS)
    )
    # Whether a victim lived long enough to commit a shard is chance; that the work was shared is not.
    assert len(_writers(folder)) >= 2


def _seconds_of_a_shard(folder: Path) -> float:
    """From its first batch to the commit of its last tier, about."""
    times = sorted(path.stat().st_mtime for path in (folder / "sampled").glob("*.json"))
    return (times[-1] - times[0]) / (len(times) - 1)


def _result(folder: Path) -> dict[str, bytes]:
    """Every file that a reader looks at; what dead workers left half written is none of them."""
    names = [path for path in folder.rglob("*.safetensors") if not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in (*names, folder / "manifest.json")}


def _writers(folder: Path) -> set[int]:
    """The shards' own records tell who wrote them."""
    committed = [read_committed_shard(folder, "exact", number) for number in range(NUM_PROMPTS)]
    return {found.writing.process_id for found in committed if found is not None}
