"""Artefacts measured by a process that forks: one process for the whole file, as an export has one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.errors import ExportError
from distill.export.cost_process import CostProcess
from distill.export.gguf import write_gguf
from distill.export.runtime_cost import NUM_PROMPT_TOKENS, hardware

IDS = [5] * 200


@pytest.fixture(scope="module")
def process():
    with CostProcess() as process:
        process.begin()
        yield process


def test_a_model_folder_and_a_gguf_file_are_measured(process, llama_folder, tmp_path):
    path = write_gguf(llama_folder, tmp_path / "f16.gguf", file_type="f16").path
    for place, runtime in ((llama_folder, "transformers"), (path, "llama.cpp")):
        cost = process.measure(place, runtime=runtime, prompt_ids=IDS, num_new_tokens=3)
        assert (cost.num_prompt_tokens, cost.num_new_tokens) == (NUM_PROMPT_TOKENS, 3)
        assert min(cost.load_s, cost.prompt_tokens_per_s, cost.generation_tokens_per_s) > 0
        assert 0 < cost.model_memory_bytes < cost.peak_memory_bytes
        assert cost.hardware == hardware()


def test_what_cannot_be_loaded_is_refused_with_the_reason_and_the_process_goes_on(process, llama_folder, tmp_path):
    with pytest.raises(ExportError, match=r"cannot be run in a process of its own\nwhy: .*nowhere does not exist"):
        process.measure(tmp_path / "nowhere", runtime="transformers", prompt_ids=IDS)
    assert process.measure(llama_folder, runtime="transformers", prompt_ids=IDS, num_new_tokens=1).load_s > 0


def test_an_unforeseen_error_is_told_by_its_last_words(process, llama_folder):
    with pytest.raises(ExportError, match=r"why: .*Error"):
        process.measure(llama_folder, runtime="transformers", prompt_ids=[10**9])


def children(pid):
    rows = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(row) for row in rows.stdout.split()]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def test_no_module_is_taken_from_the_working_directory(tmp_path, monkeypatch):
    """`export .` runs in a model's folder that somebody else may have filled."""
    (tmp_path / "distill.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    with CostProcess() as process, pytest.raises(ExportError):
        process.measure(tmp_path / "nowhere", runtime="transformers", prompt_ids=IDS)
    assert not (tmp_path / "ran").exists()


def test_a_kill_is_named_and_the_next_artefact_is_measured(process, llama_folder, tmp_path):
    """What the system does where memory is short: a fork that would go on for minutes is killed from outside."""
    process.begin()
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(process._server.pid)])
    with pytest.raises(ExportError, match="killed by SIGKILL, as the system does where memory is short"):
        process.measure(llama_folder, runtime="transformers", prompt_ids=IDS, num_new_tokens=10**7)
    assert killer.wait() == 0
    assert process.measure(llama_folder, runtime="transformers", prompt_ids=IDS, num_new_tokens=1).load_s > 0


KILLER = """
import os, signal, subprocess, sys, time
deadline = time.monotonic() + 300
while not (found := subprocess.run(["ps", "-o", "pid=", "--ppid", sys.argv[1]], capture_output=True).stdout.split()):
    if time.monotonic() > deadline:
        sys.exit("no fork appeared")
    time.sleep(0.01)
os.kill(int(found[0]), signal.SIGKILL)
"""


def test_whoever_asks_may_be_killed_and_nothing_runs_on(process, llama_folder):
    """All that the process sees of it is that its input ends, while a fork is at work."""
    request = {"path": str(llama_folder), "runtime": "transformers", "prompt_ids": [5], "num_new_tokens": 10**7}
    process.begin()
    server = process._server
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    (fork,) = wait_for(lambda: children(server.pid))
    server.stdin.close()
    assert server.wait(60) == 0
    assert is_over(fork)


def is_over(pid):
    """Gone, or dead and not yet collected by the system's first process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_closing_ends_a_fork_at_work_too_and_a_second_time_does_nothing(llama_folder):
    process = CostProcess()
    process.begin()
    server = process._server
    process.close()
    process.close()
    assert server.poll() == -signal.SIGKILL
