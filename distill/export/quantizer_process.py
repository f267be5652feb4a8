"""A quantizer in a process of its own: it may patch what it likes, need other versions, and be killed with us."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from distill.errors import ExportError
from distill.files import read_json, write_json
from distill.models.save import make_readable
from distill.process import own_environment

log = logging.getLogger(__name__)

NUM_TAIL_LINES = 12
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_MERGED_MODELS_OWN = (
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.jinja",
)
# Offline, and with few lines of progress.
_JOB_VARIABLES = {"HF_HUB_OFFLINE": "1", "TQDM_MININTERVAL": "5", "TOKENIZERS_PARALLELISM": "false"}


def run_job(
    script: Path, request: Mapping[str, object], *, python: Path | None, what: str, scratch: Path
) -> dict[str, object]:
    """Runs the program at `script` and passes on what it prints as it comes.

    The program reads its request as one line of JSON from stdin, which stays open: when it ends there, we are gone,
    and so is the program. It writes its answer to the file that `reply` names in the request. It may import no part
    of this project.

    Args:
        script: of one file; it is given as text, so that its neighbours do not pass for packages of their names.
        request: what JSON can hold.
        python: another environment's interpreter; None runs this one with the same packages.
        what: for messages.
        scratch: an empty folder, its working directory.

    Returns:
        Its answer.

    Raises:
        ExportError: it fails; carries the end of what it printed.
    """
    reply = scratch / "reply.json"
    program = script.read_text(encoding="utf-8")
    tail: deque[str] = deque(maxlen=NUM_TAIL_LINES)
    with subprocess.Popen(
        [str(python or sys.executable), "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=scratch,
        env=foreign_environment() if python is not None else own_environment(**_JOB_VARIABLES),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process, {**request, "reply": str(reply)})
            for line in process.stdout:
                if line.strip():
                    tail.append(line.rstrip())
                    log.info("%s: %s", what, line.rstrip())
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
    if code or not reply.exists():
        raise ExportError(
            f"{what} failed in a process of its own (exit code {code})",
            why="\n".join(tail) or "it printed nothing",
            fix="see its last words above; free memory if it was killed",
        )
    return read_json(reply)


def _send(process: "subprocess.Popen[str]", request: Mapping[str, object]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        log.debug("the quantizer ended before it read its request")  # its exit code and last words say why


def foreign_environment() -> dict[str, str]:
    """Variables for another environment's interpreter, which is not to see our packages."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN} | _JOB_VARIABLES


def take_over(written: Path, folder: Path, *, merged_folder: Path) -> None:
    """Makes `folder` the model folder of what a quantizer wrote to `written`.

    Only weights and the description of their format are the quantizer's, whose libraries may be older: configuration,
    tokenizer, chat template and generation settings are the merged model's own.

    Raises:
        ExportError: the quantizer left no weights, or no description of them.
    """
    weights = sorted(written.glob("*.safetensors"))
    described = read_json(written / "config.json").get("quantization_config") if weights else None
    if not isinstance(described, dict):
        raise ExportError(
            f"the quantizer wrote {len(weights)} files of weights and no quantization_config",
            why="the artefact could not be loaded",
            fix="check the quantizer's version",
        )
    for path in (*weights, *written.glob("*.safetensors.index.json")):
        path.replace(folder / path.name)
    write_json(folder / "config.json", {**read_json(merged_folder / "config.json"), "quantization_config": described})
    for path in sorted({path for pattern in _MERGED_MODELS_OWN for path in merged_folder.glob(pattern)}):
        shutil.copyfile(path, folder / path.name)
    make_readable(folder)


def scratch_folder(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """An empty folder on the disk of `folder`, removed afterwards."""
    return tempfile.TemporaryDirectory(prefix=".quantizer-", dir=folder)
