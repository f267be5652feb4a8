"""A GGUF file's first load, in a process of its own: llama.cpp aborts on some damaged headers, which no caller sees."""

import subprocess
import sys
from pathlib import Path

from distill.errors import ArtefactError
from distill.process import ending, own_environment

TIMEOUT_S = 900.0
# Imports the runtime alone, which takes a fraction of a second; one computed token shows that the numbers fit too.
_PROGRAM = """
import json, sys, urllib.request, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity, params.cache_ram_mib = 64, 1, 0, -1, 0
params.warmup, params.fit_params, params.ui, params.use_jinja = False, False, False, True
try:
    server = xllamacpp.Server(params)
except (RuntimeError, ValueError) as error:
    sys.exit(f"llama.cpp: {error}")
body = json.dumps({"prompt": [0], "n_predict": 1, "cache_prompt": False}).encode()
request = urllib.request.Request(server.listening_address + "/completion", body, {"Content-Type": "application/json"})
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=float(sys.argv[2])).read()
except OSError as error:
    sys.exit(f"llama.cpp computes no token: {error}")
"""


def require_loads(path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
    """Lets llama.cpp read the file at `path` and compute a token, where a crash ends only the process that tries.

    Args:
        path: a .gguf file.
        timeout_s: after so many seconds the process is killed.

    Raises:
        ArtefactError: it does not load, does not compute, takes too long, or brings llama.cpp down.
    """
    # -P: a module beside a stranger's artefact is not imported where verify runs in its folder
    command = [sys.executable, "-P", "-c", _PROGRAM, str(path.absolute()), str(timeout_s)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            env=own_environment(GGML_NO_BACKTRACE="1"),
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtefactError(
            f"{path} is not loaded by llama.cpp within {timeout_s:g} s", fix="export it again"
        ) from error
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    why = ending(done.returncode, lines[-1] if lines else "")
    raise ArtefactError(f"{path} is not loaded by llama.cpp", why=why, fix="export it again")
