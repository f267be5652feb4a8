"""Many workers on one cache, killed at random points: what comes out is what one undisturbed worker writes."""

import copy
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache, score_sequences, verify
from distill.teacher_cache.shard_records import read_committed_shard

NUM_KILLS = 20
NO_ROOM = 7


@pytest.fixture(scope="module")
def many_pairs() -> list[TokenizedSequence]:
    """Prompts with two completions each, for some hundred shards."""
    draw = random.Random(1)

    def ids(lowest: int, highest: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, 270) for _ in range(draw.randint(lowest, highest)))

    prompts = [ids(3, 9) for _ in range(200)]
    return [TokenizedSequence(prompt, ids(2, 7)) for prompt in prompts for _ in range(2)]


def with_hook(teacher: LoadedModel, hook: Callable[[], None]) -> LoadedModel:
    """The teacher with something that happens before every pass."""
    model = copy.deepcopy(teacher.model)
    model.model.register_forward_pre_hook(lambda module, args: hook())
    return LoadedModel(model, teacher.tokenizer, teacher.source, teacher.fingerprint)


def one_pass_a_kill(kills: Path) -> Callable[[], None]:
    """Holds a worker back until another one was killed, so that all kills come while there is work; `kills` counts."""
    seen = [0]

    def hook() -> None:
        with suppress(FileNotFoundError):
            while kills.stat().st_size <= seen[0]:
                time.sleep(0.01)
            seen[0] = kills.stat().st_size

    return hook


def killed_after(seconds: float, folder: Path) -> Callable[[], None]:
    """Kills its own process so long after the first pass of a shard that it claimed, wherever it then is."""
    is_doomed = []

    def hook() -> None:
        time.sleep(0.05)
        claims = [path.read_text() for path in (folder / "claims").glob("*.json")] if not is_doomed else []
        if any(f"-{os.getpid()}-" in text for text in claims):
            is_doomed.append(True)
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    return hook


def started(teacher, sequences, settings, folder: Path, *, max_file_bytes: int | None = None) -> int:
    """A worker in a process of its own; it leaves with 0 when the cache is finished."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
        score_sequences(teacher, sequences, settings=settings, output_dir=folder, data_fingerprint="data")
        code = 0
    except CacheError as error:
        code = NO_ROOM if "no room for" in error.what else 1
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_workers_killed_twenty_times_write_what_one_worker_writes(teacher, many_pairs, small_shards, tmp_path):
    settings = small_shards(codec=["scores", "exact", "sampled"], lease_s=0.5)
    folder, kills, draw = tmp_path / "c", tmp_path / "kills", random.Random(2)
    kills.touch()
    slow = with_hook(teacher, one_pass_a_kill(kills))
    steady = [started(slow, many_pairs, settings, folder) for _ in range(2)]
    try:
        for number in range(NUM_KILLS):
            victim = with_hook(teacher, killed_after(draw.uniform(0.0, 0.3), folder))
            code = exit_code(started(victim, many_pairs, settings, folder))
            assert code == -signal.SIGKILL, f"worker {number} left with {code}"
            kills.write_bytes(b"." * (number + 1))
        assert exit_code(started(teacher, many_pairs, settings, folder, max_file_bytes=400)) == NO_ROOM
    finally:
        kills.unlink()
        codes = [exit_code(worker) for worker in steady]
    assert codes == [0, 0]
    score_sequences(teacher, many_pairs, settings=settings, output_dir=tmp_path / "whole", data_fingerprint="data")
    found, expected = (_result(folder) for folder in (folder, tmp_path / "whole"))
    assert found == expected
    assert not list((folder / "claims").glob("*.json"))
    assert verify(folder)["is_complete"]
    ids = TeacherCache.open(folder).sequence_ids
    assert sorted(ids) == sorted(row.sequence_id for row in many_pairs)
    _require_written_by_several(folder)


def test_no_thread_of_a_worker_outlives_it(teacher, many_pairs, small_shards, tmp_path):
    before = set(threading.enumerate())
    rows = many_pairs[:6]
    score_sequences(teacher, rows, settings=small_shards(), output_dir=tmp_path / "c", data_fingerprint="data")
    assert set(threading.enumerate()) == before


def _result(folder: Path) -> dict[str, bytes]:
    """Every file that a reader looks at; what dead workers left half written is none of them."""
    names = [path for path in folder.rglob("*.safetensors") if not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in (*names, folder / "manifest.json")}


def _require_written_by_several(folder: Path) -> None:
    """The shards' own records tell who wrote them."""
    numbers = range(len(list((folder / "exact").glob("*.json"))))
    committed = [read_committed_shard(folder, "exact", number) for number in numbers]
    assert len({found.writing.process_id for found in committed if found is not None}) > 2
