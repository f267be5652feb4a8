import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import distill.launch
from distill.errors import DistillError, RecipeError, StageError
from distill.launch import launch, rank_environment, require_launchable

ROOT = Path(__file__).resolve().parents[2]
RANK = """
import os, signal, sys, time
from pathlib import Path
from distill.errors import RecipeError, StageError
from distill.launch import heed_launcher, tell_launcher
from distill.process import stopped_by_sigterm

heed_launcher()
rank = int(os.environ["RANK"])
folder = Path(__file__).parent

def refuse(error):
    error.add_note("in stage train")
    tell_launcher(error)
    sys.exit(error.exit_code)

def stay():
    (folder / f"started-{rank}").touch()
    try:
        with stopped_by_sigterm():
            time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"ended-{rank}").write_text("SIGINT")
        sys.exit(130)
    except SystemExit:
        (folder / f"ended-{rank}").write_text("SIGTERM")
        raise

exec(sys.argv[1])
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A rank that does what its one argument says."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(distill.launch, "SECONDS_TO_AGREE", 2.0)
    (tmp_path / "rank.py").write_text(RANK)
    return [sys.executable, str(tmp_path / "rank.py")]


def failure(program: list[str], line: str) -> DistillError:
    """What two ranks that run `line` end with."""
    with pytest.raises(DistillError) as caught:
        launch([line], num_processes=2, program=program)
    return caught.value


def test_ranks_know_their_number_and_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    found = rank_environment(2, 3, port=1234, folder=tmp_path)
    assert [found[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")] == ["2", "2", "3", "1234"]
    assert found["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert rank_environment(0, 3, port=1, folder=tmp_path)["OMP_NUM_THREADS"] == "5"
    assert "RANK" not in rank_environment(0, 1, port=1, folder=tmp_path)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_ranks_of_ranks_are_refused(name: str):
    with pytest.raises(RecipeError, match=rf"--nproc is 2, and a launcher started this process already \({name}=4\)"):
        require_launchable(2, num_gpus=0, environment={name: "4"})


def test_more_ranks_than_gpus_are_refused():
    with pytest.raises(RecipeError, match=r"--nproc is 3, and this machine has 2 GPU\(s\)\nwhy: .*\nfix: --nproc 2"):
        require_launchable(3, num_gpus=2, environment={})
    require_launchable(2, num_gpus=2, environment={})
    require_launchable(3, num_gpus=0, environment={})


def test_ranks_that_end_well_print_as_one(program: list[str], capfd: pytest.CaptureFixture[str]):
    launch(["print('one line')"], num_processes=2, program=program)
    assert capfd.readouterr().out == "one line\n"
    launch(["print('one line')"], num_processes=2, program=program, is_shown=False)
    assert capfd.readouterr().out == ""


def test_what_every_rank_refuses_is_told_once(program: list[str], capfd: pytest.CaptureFixture[str]):
    error = failure(program, "refuse(RecipeError('beta is 0', why='no pull', fix='beta=0.1'))")
    assert (str(error), error.exit_code) == ("beta is 0\nwhy: no pull\nfix: beta=0.1\nin stage train", 2)
    assert not hasattr(error, "__notes__")
    assert capfd.readouterr() == ("", "")


def test_what_one_rank_refuses_is_told_with_its_number_and_stops_the_others(
    program: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(distill.launch, "SECONDS_TO_AGREE", 0.2)
    line = (
        "while rank == 1 and not (folder / 'started-0').exists(): time.sleep(0.02)\n"
        "refuse(StageError('disk full')) if rank == 1 else stay()"
    )
    error = failure(program, line)
    assert (str(error), error.exit_code, error.__notes__) == ("disk full\nin stage train", 1, ["in rank 1"])
    assert (tmp_path / "ended-0").read_text() == "SIGTERM"


def test_the_cause_is_told_before_what_follows_from_it(program: list[str]):
    """Rank 1 is killed; rank 0 breaks, as a collective does whose peer is gone."""
    line = "os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else time.sleep(0.5) or [][0]"
    error = failure(program, line)
    assert isinstance(error, StageError)
    assert str(error).startswith("rank 1 was killed by SIGKILL\nwhy: the system ends a process when memory runs out")
    told = failure(program, "refuse(RecipeError('bad')) if rank == 1 else [][0]")
    assert (told.exit_code, told.__notes__) == (2, ["in rank 1"])


def test_a_rank_that_breaks_is_told_with_its_traceback(program: list[str]):
    error = failure(program, "sys.exit(7) if rank == 0 else [][0]")
    assert isinstance(error, StageError)
    assert error.what == "rank 1 broke"
    assert error.why.endswith("IndexError: list index out of range")
    error = failure(program, "print('odd', file=sys.stderr) or os._exit(7) if rank == 1 else None")
    assert (error.what, error.why) == ("rank 1 ended with exit code 7", "odd")


@pytest.mark.parametrize(
    ("number", "code", "heard"),
    [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGKILL, -9, "SIGTERM")],
)
def test_a_signal_to_the_launcher_ends_every_rank(
    program: list[str], tmp_path: Path, number: signal.Signals, code: int, heard: str
):
    launcher = (
        "import sys\nfrom distill.launch import launch\nfrom distill.process import stopped_by_sigterm\n"
        f"try:\n    with stopped_by_sigterm():\n        launch(['stay()'], num_processes=2, program={program})\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", launcher], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    _wait_for(tmp_path, "started-0", "started-1")
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    _wait_for(tmp_path, "ended-0", "ended-1")
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in range(2)] == [heard, heard]


def _wait_for(folder: Path, *names: str) -> None:
    deadline = time.monotonic() + 60
    while not all((folder / name).exists() and (folder / name).stat().st_size + name.startswith("s") for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.02)
