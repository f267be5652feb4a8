"""The merged model with 4-bit weights that auto-round has rounded, by calibration chats or to nearest."""

from collections.abc import Mapping, Set
from functools import partial
from pathlib import Path

from torch import Tensor

from distill.export.group_size import group_size
from distill.export.quantizer_process import run_job, scratch_folder, take_over
from distill.export.reload import largest_difference, probe_logits
from distill.export.stored_tensors import stored_tensors
from distill.export.writing import Writing, calibration_windows
from distill.models import load_model

JOB = Path(__file__).with_name("auto_round_job.py")
SEED, NUM_ITERATIONS = 0, 200


def write_auto_round(
    merged_folder: Path, folder: Path, how: Writing, *, num_iterations: int = NUM_ITERATIONS
) -> Mapping[str, object]:
    """Quantizes the model in `merged_folder` and writes it to `folder`; the embedding and the head stay as they are.

    With calibration chats each layer's roundings and scales are fitted to the layer's own outputs on them; without,
    weights are rounded to the nearest value and no data is read.

    Args:
        num_iterations: steps of signed gradient descent a layer, with calibration chats.

    Returns:
        `method`, `group_size`, `num_calibration_windows`, and as `reload_delta` the largest absolute difference of
        logits between the reloaded model and a plain one that has the numbers which the files stand for.

    Raises:
        ExportError: no group size fits, auto-round fails, or the reloaded model differs.
        ModelError: what it wrote does not load.

    Source:
        Cheng et al. 2023, arXiv:2309.05516.
    """
    size = group_size(merged_folder)
    windows = calibration_windows(merged_folder, how.calibration) if how.calibration else []
    with scratch_folder(folder) as name:
        scratch = Path(name)
        request = {
            "model": str(merged_folder.absolute()),
            "output": str(scratch.absolute() / "out"),
            "group_size": size,
            "iterations": num_iterations,
            "seed": SEED,
            "windows": windows,
        }
        reply = run_job(JOB, request, python=None, what="auto-round", scratch=scratch.absolute())
        take_over(Path(str(reply["folder"])), folder, merged_folder=merged_folder)
    return {
        "method": "fitted to calibration chats" if windows else "rounded to nearest, without calibration chats",
        "group_size": size,
        "num_calibration_windows": len(windows),
        "reload_delta": _reload_delta(merged_folder, folder),
    }


def _reload_delta(merged_folder: Path, folder: Path) -> float:
    """The reloaded model against a plain one; the runtime holds biases of packed layers in half precision."""
    plain = load_model(merged_folder)
    stored, packed = {}, set()
    for tensor in stored_tensors(folder, merged_folder=merged_folder):
        stored[tensor.name] = tensor.values
        if tensor.type == "INT4":
            packed.add(tensor.name.removesuffix("weight"))
    expected = probe_logits(plain.model, partial(_as_stored, stored=stored, packed=packed))
    return largest_difference(expected, probe_logits(load_model(folder).model), what="the model reloaded from disk")


def _as_stored(name: str, own: Tensor, *, stored: Mapping[str, Tensor | None], packed: Set[str]) -> Tensor:
    values = stored.get(name)
    if values is None:
        return own
    return values.half().float() if name.endswith("bias") and name.removesuffix("bias") in packed else values
