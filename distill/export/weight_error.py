"""How far an artefact's weights are from the merged model's, how they are stored, and what that takes per weight."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import ExportError
from distill.export.stored_tensors import StoredTensor, stored_tensors

NUM_WORST = 10


@dataclass(frozen=True)
class TensorError:
    """One tensor's root mean square error in shares of its own root mean square."""

    name: str
    type: str
    relative_rmse: float


@dataclass(frozen=True)
class WeightReport:
    """An artefact's weights against the merged model's.

    `bits_per_weight` counts scales and codebooks, not headers and tokenizers. `worst_tensors` come worst first;
    `num_unread_tensors` are of formats that only their own runtime can turn back into numbers, and have no error.
    """

    num_tensors_by_type: dict[str, int]
    bits_per_weight: float
    worst_tensors: tuple[TensorError, ...]
    num_unread_tensors: int


def weight_report(path: Path, *, merged_folder: Path) -> WeightReport:
    """Reads the artefact at `path` tensor by tensor beside the checkpoint it was made from.

    Raises:
        ExportError: the artefact lacks a tensor, or holds one that is not finite.
    """
    return summary(stored_tensors(path, merged_folder=merged_folder))


def summary(tensors: Iterable[StoredTensor]) -> WeightReport:
    """The report of a stream of tensors, of which there is at least one; none is kept.

    Raises:
        ExportError: a tensor is not finite, or was zero and is not.
    """
    types: Counter[str] = Counter()
    num_weights = size_bytes = num_unread = 0
    errors = []
    for tensor in tensors:
        types[tensor.type] += 1
        num_weights += tensor.num_weights
        size_bytes += tensor.size_bytes
        if tensor.values is None:
            num_unread += 1
        else:
            error = relative_rmse(tensor.original, tensor.values)
            if not math.isfinite(error):
                raise ExportError(
                    f"tensor {tensor.name}, stored as {tensor.type}, is not what the merged model has",
                    why="it holds values that are not finite, or others where all were zero",
                    fix="choose another format",
                )
            errors.append(TensorError(tensor.name, tensor.type, error))
    worst = sorted(errors, key=lambda error: (-error.relative_rmse, error.name))[:NUM_WORST]
    return WeightReport(dict(sorted(types.items())), 8 * size_bytes / num_weights, tuple(worst), num_unread)


def relative_rmse(original: Float[Tensor, "..."], values: Float[Tensor, "..."]) -> float:
    r"""Root mean square error over root mean square.

    .. math:: \sqrt{\sum_i (\hat w_i - w_i)^2} \Big/ \sqrt{\sum_i w_i^2}

    A tensor of zeros that stays one has no error; one that does not is infinitely wrong.
    """
    error, norm = (float(torch.linalg.vector_norm(x, dtype=torch.float64)) for x in (values - original, original))
    if error == 0.0:
        return 0.0
    return error / norm if norm else float("inf")
