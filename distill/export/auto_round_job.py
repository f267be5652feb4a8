"""The process that runs auto-round: a request on stdin, a model folder and a reply on disk; imports nothing of ours.

Request: model, output, reply (paths), group_size, iterations, seed, windows (token ids, one length; none: rounding
to nearest, without data).
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> None:
    """Quantizes and writes; ends at once when whoever asked is gone."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_asker, daemon=True).start()
    import auto_round
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(request["seed"])
    model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(request["model"], local_files_only=True)
    windows = request["windows"]
    quantizer: Any = auto_round.AutoRound(
        model,
        tokenizer,
        scheme="W4A16",
        group_size=request["group_size"],
        device_map="cpu",
        seed=request["seed"],
        **_method(windows, iterations=request["iterations"]),
    )
    _, folders = quantizer.quantize_and_save(request["output"], format="auto_round")
    folder = folders[0] if isinstance(folders, list | tuple) else folders
    Path(request["reply"]).write_text(json.dumps({"folder": str(folder), "version": auto_round.__version__}))


def _method(windows: list[list[int]], *, iterations: int) -> dict[str, Any]:
    """Signed gradient descent on the roundings where there is data, else rounding to nearest."""
    if not windows:
        return {"iters": 0, "disable_opt_rtn": True}
    import torch

    return {
        "iters": iterations,
        "dataset": [torch.tensor([ids]) for ids in windows],
        "nsamples": len(windows),
        "seqlen": len(windows[0]),
        "batch_size": min(8, len(windows)),
        "enable_torch_compile": False,
        "enable_deterministic_algorithms": True,
    }


def _end_with_asker() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
