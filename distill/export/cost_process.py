"""A process that has the libraries imported once and measures each artefact in a fork of itself.

Memory that an artefact takes cannot be told from what the export itself holds or held, and a runtime that crashes
must not take the export along: so each artefact is measured in a process that has loaded nothing before.
"""

import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch

from distill.errors import DistillError, ExportError
from distill.export.runtime_cost import NUM_NEW_TOKENS, NUM_PROMPT_TOKENS, RuntimeCost, run_here
from distill.export.smoke import Runtime
from distill.process import ending, own_environment

_PROGRAM = "from distill.export.cost_process import serve; serve()"
_STDIN, _STDOUT, _STDERR = 0, 1, 2
# What loading a model and answering with it would import.
_LIBRARIES = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.modeling_utils",
    "transformers.generation",
    "xllamacpp",
)


class CostProcess:
    """Measures artefacts one after the other; a context manager, whose process ends with it or with this process."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        # The process writes where this one reads: they share the place in the file.
        self._stderr: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def begin(self) -> None:
        """Starts the process if it does not run, and does not wait: its imports go on beside other work."""
        if self._server is not None and self._server.poll() is None:
            return
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],  # -P: no module is taken from the working directory
            stdin=pipe,
            stdout=pipe,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env=own_environment(),
            start_new_session=True,  # so that it can be ended together with its forks
        )

    def measure(
        self, path: Path, *, runtime: Runtime, prompt_ids: Sequence[int], num_new_tokens: int = NUM_NEW_TOKENS
    ) -> RuntimeCost:
        """Runs the artefact at `path` where nothing was loaded before.

        Args:
            path: a model folder, or a .gguf file for llama.cpp.
            runtime: what loads it.
            prompt_ids: what it reads, cut at `NUM_PROMPT_TOKENS`.
            num_new_tokens: what it writes after that, whether or not it would end before.

        Raises:
            ExportError: it cannot be run, or its process fails or is killed.
        """
        self._stderr.seek(0)
        self._stderr.truncate()
        reply = self._ask(
            {
                "path": str(path.absolute()),
                "runtime": runtime,
                "prompt_ids": list(prompt_ids)[:NUM_PROMPT_TOKENS],
                "num_new_tokens": num_new_tokens,
            }
        )
        if "cost" in reply:
            return RuntimeCost(**reply["cost"])
        why = reply.get("refusal") or ending(int(reply["exit_code"]), self._last_words())
        raise ExportError(f"{path} cannot be run in a process of its own", why=why, fix="free memory and export again")

    def close(self) -> None:
        """Ends the process and whatever it measures; a second call does nothing."""
        server, self._server = self._server, None
        self._stderr.close()
        if server is None:
            return
        assert server.stdin is not None
        assert server.stdout is not None
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        server.stdin.close()
        server.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, object]) -> Mapping[str, Any]:
        """The process's reply, or how it ended."""
        self.begin()
        server = self._server
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            line = server.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        return {"exit_code": server.wait()}

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def serve() -> None:
    """The process: requests as JSON, a line each, on stdin; replies on stdout, which only they are written to.

    It computes nothing itself, so that no thread stands when it forks. Where it cannot fork, which a process that
    has asked for a GPU cannot either, it answers one request and ends.
    """
    replies = os.fdopen(os.dup(_STDOUT), "w", encoding="utf-8")
    os.dup2(_STDERR, _STDOUT)
    for name in _LIBRARIES:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    can_fork = sys.platform == "linux" and not torch.cuda.is_available()
    for line in sys.stdin:
        reply = _forked(json.loads(line), replies.fileno()) if can_fork else _measured(json.loads(line))
        if reply is None:
            return
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if not can_fork:
            return


def _forked(request: dict[str, Any], replies: int) -> Mapping[str, object] | None:
    """The reply of a fork; None where whoever asked is gone, and the fork with it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_measured, args=(request, sender, replies))
    process.start()
    sender.close()
    if receiver not in wait([receiver, _STDIN]):
        process.kill()
        process.join()
        return None
    try:
        reply: Mapping[str, object] | None = receiver.recv()
    except EOFError:
        reply = None
    process.join()
    return {"exit_code": process.exitcode} if reply is None else reply


def _send_measured(request: dict[str, Any], sender: Connection, replies: int) -> None:
    os.close(replies)  # or it would hold open what tells that the process it was forked from has ended
    sender.send(_measured(request))


def _measured(request: dict[str, Any]) -> Mapping[str, object]:
    try:
        return {"cost": asdict(run_here(**request))}
    except DistillError as error:
        return {"refusal": "; ".join(part for part in (error.what, error.why) if part)}
