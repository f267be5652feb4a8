"""A step that cannot be taken is written down: what was read, what the loss said of each example, the settings."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from distill.errors import TrainingError
from distill.files import write_json
from distill.models import Tokenizer
from distill.training.feed import GlobalBatch
from distill.training.readings import Readings, worst_first
from distill.training.step import StudentStep, UnsoundStepError

FORMAT = "distill-failed-step"
VERSION = 1
RECORD_NAME = "failure.json"
NUM_NAMED = 3


def write_failed_step(
    error: UnsoundStepError,
    step: StudentStep,
    batch: GlobalBatch,
    *,
    lr: float,
    output_dir: Path,
    tokenizer: Tokenizer,
) -> TrainingError:
    """Writes `failed_step_000123/`, whole or not at all; all ranks call this together.

    `failure.json` tells the step, its metrics, the settings and every example with its loss, worst first;
    `rank_0.json` the text of what rank 0 read, and `rank_0.safetensors` its token ids, masks and cached scores.

    Args:
        error: what is wrong with the step.
        step: reads the batch again, without dropout.
        batch: of the step.
        lr: of the step.
        output_dir: gets the folder, in place of an earlier one of the same step.
        tokenizer: makes text of token ids.

    Returns:
        The error to raise: with the folder and the worst examples of all ranks.
    """
    folder = output_dir / f"failed_step_{error.number:06d}"
    try:
        return _written(error, step, batch, lr=lr, folder=folder, tokenizer=tokenizer)
    except (OSError, SafetensorError) as unwritten:
        why = f"{error.why}. The batch could not be written to {folder}: {unwritten}"
        return TrainingError(error.what, why=why, fix=error.fix)


def _written(
    error: UnsoundStepError, step: StudentStep, batch: GlobalBatch, *, lr: float, folder: Path, tokenizer: Tokenizer
) -> TrainingError:
    world, readings = step.world, step.read(batch)[1]
    partial = folder.with_name(f".{folder.name}.partial")
    if world.is_main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    world.wait()
    save_file(_tensors(readings), partial / f"rank_{world.rank}.safetensors")
    write_json(partial / _name(world.rank), {"passes": [_told(one, tokenizer) for one in readings]})
    world.wait()
    losses = worst_first([pair for rank in range(world.world_size) for pair in _losses(partial / _name(rank))])
    # The main rank renames the folder that the others have just read from.
    world.wait()
    if world.is_main:
        record = {
            "format": FORMAT,
            "version": VERSION,
            "step": error.number,
            "reason": error.what,
            "lr": lr,
            "metrics": {name: _number(value) for name, value in error.metrics.items()},
            "examples": [{"id": example_id, "loss": _number(loss)} for example_id, loss in losses],
            "world_size": world.world_size,
            "settings": step.settings.model_dump(mode="json"),
        }
        write_json(partial / RECORD_NAME, record)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    world.wait()
    named = ", ".join(f"{example_id} ({_number(loss)})" for example_id, loss in losses[:NUM_NAMED])
    return TrainingError(
        error.what,
        why=f"{error.why}. Its examples with the largest losses: {named}; the batch is in {folder}",
        fix=f"look at these examples in {folder / RECORD_NAME}; {error.fix}",
    )


def _name(rank: int) -> str:
    return f"rank_{rank}.json"


def _tensors(readings: Sequence[Readings]) -> dict[str, Tensor]:
    """What the passes of this rank held, under the number of the pass and the name of the field."""
    found: dict[str, Tensor | None] = {}
    for number, one in enumerate(readings):
        batch = one.micro_batch
        for name in ("input_ids", "position_ids", "group_ids", "branch_ids", "source_index", "target_ids"):
            found[f"{number}.{name}"] = getattr(batch.pack, name)
        for name in ("token_answers", "answer_lengths", "reference_log_probs", "teacher_log_probs", "teacher_lengths"):
            found[f"{number}.{name}"] = getattr(batch, name)
        found[f"{number}.token_log_probs"] = one.token_log_probs
    return {name: tensor.cpu().clone().contiguous() for name, tensor in found.items() if tensor is not None}


def _told(one: Readings, tokenizer: Tokenizer) -> dict[str, object]:
    """A pass in words: each example with its loss, and each of its answers with its text and its log-prob."""
    batch, pack = one.micro_batch.to(torch.device("cpu")), one.micro_batch.pack.to("cpu")
    answers_each = len(batch.answer_lengths) // len(batch.example_ids)
    width = pack.input_ids.shape[1]
    scores = {
        "reference_log_prob": batch.reference_log_probs,
        "teacher_log_prob": batch.teacher_log_probs,
        "student_log_prob": one.log_probs.cpu(),
    }
    examples: list[dict[str, object]] = []
    for number, (example_id, loss) in enumerate(zip(batch.example_ids, one.losses.tolist(), strict=True)):
        answers: list[Mapping[str, object]] = []
        for answer in range(answers_each * number, answers_each * (number + 1)):
            tokens = (batch.token_answers == answer).nonzero()[:, 0]
            # An answer that the student drew stands alone: its pair's other one has no tokens.
            if len(tokens) == 0:
                continue
            row, place = divmod(int(pack.source_index[tokens[0]]), width)
            is_prompt = (pack.group_ids[row] == pack.group_ids[row, place]) & (pack.branch_ids[row] == 0)
            answers.append(
                {
                    "read": tokenizer.decode(pack.input_ids[row][is_prompt].tolist()),
                    "predicted": tokenizer.decode(pack.target_ids[tokens].tolist()),
                    "num_tokens": len(tokens),
                    **{name: _number(float(v[answer])) for name, v in scores.items() if v is not None},
                }
            )
        examples.append({"id": example_id, "loss": _number(loss), "answers": answers})
    return {"examples": examples}


def _losses(path: Path) -> list[tuple[str, float]]:
    """The examples of one rank, as it wrote them."""
    passes = json.loads(path.read_text(encoding="utf-8"))["passes"]
    return [(str(example["id"]), float(example["loss"])) for one in passes for example in one["examples"]]


def _number(value: float) -> float | str:
    """A figure as JSON can hold it: what is not finite as text."""
    return value if math.isfinite(value) else str(value)
