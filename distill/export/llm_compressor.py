"""The merged model in llm-compressor's formats, written by a process in an environment of its own."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file

from distill.errors import RecipeError
from distill.export.group_size import group_size
from distill.export.quantizer_process import foreign_environment, run_job, scratch_folder, take_over
from distill.export.reload import largest_difference, probe_ids, probe_logits
from distill.export.writing import Writing, calibration_windows
from distill.extras import COMPRESSED_TENSORS
from distill.models import load_model

Scheme = Literal["W4A16", "W8A8", "FP8_DYNAMIC"]

JOB = Path(__file__).with_name("llm_compressor_job.py")
SEED = 0
PYTHON_VARIABLE = "DISTILL_LLMCOMPRESSOR_PYTHON"
DEFAULT_ENVIRONMENT = Path("~/.cache/distill/llmcompressor")
_INSTALL = "python -m venv {0} && {0}/bin/pip install 'llmcompressor==0.14.*'"
_PROBE_S = 120


def write_llm_compressor(merged_folder: Path, folder: Path, how: Writing, *, scheme: Scheme) -> Mapping[str, object]:
    """Quantizes the model in `merged_folder` and writes it to `folder`; the embedding and the head stay as they are.

    Integers are fitted by GPTQ where there are calibration chats; without them, and for 8-bit floats always, weights
    are rounded to the nearest value and no data is read.

    Returns:
        `method`, `versions` of the other environment, `num_calibration_windows`, `group_size` of 4-bit weights, and
        as `reload_delta` the largest absolute difference of logits between the model in that environment's memory
        and the one reloaded here.

    Raises:
        RecipeError: the environment is missing.
        ExportError: no group size fits, llm-compressor fails, or the reloaded model differs.
        ModelError: what it wrote does not load.

    Source:
        Frantar et al. 2022, arXiv:2210.17323 (GPTQ).
    """
    python = find_python(how)
    size = group_size(merged_folder) if scheme == "W4A16" else None
    fits = bool(how.calibration) and scheme != "FP8_DYNAMIC"
    windows = calibration_windows(merged_folder, how.calibration) if fits else []
    plain = load_model(merged_folder)
    ids = probe_ids(plain.model)
    del plain
    with scratch_folder(folder) as name:
        scratch = Path(name).absolute()
        request = {
            "model": str(merged_folder.absolute()),
            "output": str(scratch / "out"),
            "logits": str(scratch / "logits.safetensors"),
            "scheme": scheme,
            "group_size": size,
            "seed": SEED,
            "windows": windows,
            "probe": ids.tolist(),
        }
        reply = run_job(JOB, request, python=python, what="llm-compressor", scratch=scratch)
        take_over(scratch / "out", folder, merged_folder=merged_folder)
        expected = load_file(scratch / "logits.safetensors")["logits"]
    delta = largest_difference(expected, probe_logits(load_model(folder).model), what="the model reloaded from disk")
    return {
        "method": "GPTQ on calibration chats" if windows else "rounded to nearest, without calibration chats",
        "versions": reply["versions"],
        **({} if size is None else {"group_size": size}),
        "num_calibration_windows": len(windows),
        "reload_delta": delta,
    }


def require_llm_compressor(how: Writing) -> None:
    """Refuses the formats before any work where llm-compressor, or what reads them, is missing.

    Raises:
        RecipeError: says how to install it.
    """
    COMPRESSED_TENSORS.require("a compressed-tensors format")
    find_python(how)


def find_python(how: Writing) -> Path:
    """The interpreter of llm-compressor's environment: the setting's, the variable's, or that in the default place.

    Raises:
        RecipeError: there is none, or it cannot import llm-compressor.
    """
    default = DEFAULT_ENVIRONMENT.expanduser() / "bin" / "python"
    named = how.llmcompressor_python or (Path(os.environ[PYTHON_VARIABLE]) if os.environ.get(PYTHON_VARIABLE) else None)
    python = (named or default).expanduser().absolute()
    fix = f"{_INSTALL.format(DEFAULT_ENVIRONMENT)}; or name another: {PYTHON_VARIABLE}=/path/to/bin/python"
    if not python.is_file():
        raise RecipeError(
            f"llm-compressor's environment has no interpreter at {python}",
            why="it needs an older transformers than ours, and so an environment of its own",
            fix=fix,
        )
    command = [str(python), "-c", "import importlib.util as u; assert u.find_spec('llmcompressor'), 'it lacks it'"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PROBE_S, env=foreign_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RecipeError(f"{python} does not run", why=str(error), fix=fix) from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RecipeError(f"{python} cannot import llmcompressor", why=why, fix=fix)
    return python
