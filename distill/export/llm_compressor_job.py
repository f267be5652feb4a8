"""The process that runs llm-compressor in its own environment: a request on stdin, a model folder and a reply on disk.

Its transformers may be older than ours, and it imports nothing of ours.

Request: model, output, reply, logits (paths), scheme, group_size, seed, windows (token ids, one length; none: no
data is read), probe (token ids).
"""

import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> None:
    """Quantizes, writes the model and its logits on the probe; ends at once when whoever asked is gone."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_asker, daemon=True).start()
    import llmcompressor
    import torch
    import transformers
    from safetensors.torch import save_file

    random.seed(request["seed"])
    torch.manual_seed(request["seed"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=torch.float32, local_files_only=True
    )
    windows = request["windows"]
    llmcompressor.oneshot(model=model, recipe=_recipe(request), **(_data(windows) if windows else {}))
    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.tensor(request["probe"])).logits
    save_file({"logits": logits.float().contiguous()}, request["logits"])
    model.save_pretrained(request["output"], save_compressed=True)
    versions = {"llmcompressor": llmcompressor.__version__, "transformers": transformers.__version__}
    Path(request["reply"]).write_text(json.dumps({"versions": versions}))


def _recipe(request: dict[str, Any]) -> Any:
    """GPTQ for integers where there is data to fit them to, else rounding to nearest."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    if request["scheme"] == "W4A16":
        weights = QuantizationArgs(
            num_bits=4, type="int", symmetric=True, strategy="group", group_size=request["group_size"]
        )
        what: dict[str, Any] = {"config_groups": {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}}
    else:
        what = {"targets": "Linear", "scheme": request["scheme"]}
    kind = GPTQModifier if request["windows"] else QuantizationModifier
    return kind(ignore=["lm_head"], **what)


def _data(windows: list[list[int]]) -> dict[str, Any]:
    from datasets import Dataset

    rows = {"input_ids": windows, "attention_mask": [[1] * len(ids) for ids in windows]}
    return {
        "dataset": Dataset.from_dict(rows),
        "num_calibration_samples": len(windows),
        "max_seq_length": len(windows[0]),
        "shuffle_calibration_samples": False,
    }


def _end_with_asker() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
