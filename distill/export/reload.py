"""Whether a model reloaded from disk says what the one in memory said."""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.errors import ExportError
from distill.models import (
    DtypeName,
    LanguageModel,
    LoadedModel,
    WeightOf,
    lending_weights,
    load_model,
    without_adapters,
)
from distill.numerics import widened

NUM_PROBE_ROWS, NUM_PROBE_TOKENS = 2, 32
LOGIT_TOLERANCE = 1e-3


def load_held(folder: Path, *, dtype: DtypeName) -> LoadedModel:
    """The model with its weights held in `dtype`, as `probe_logits` can widen them.

    Where that would round numbers that are computed and not stored, such as Gemma's embedding scale, all of it is
    held in float32.

    Raises:
        ModelError: it cannot be loaded.
    """
    loaded = load_model(folder, dtype=dtype)
    if dtype == "float32" or all(b.dtype == torch.float32 for b in loaded.model.buffers() if b.is_floating_point()):
        return loaded
    del loaded
    return load_model(folder)


def probe_ids(model: LanguageModel) -> Int[Tensor, "batch sequence"]:
    """Fixed arbitrary tokens, the same for every model of one vocabulary."""
    num_tokens = without_adapters(model).get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(num_tokens, (NUM_PROBE_ROWS, NUM_PROBE_TOKENS), generator=generator)


def probe_logits(
    model: LanguageModel, weight_of: WeightOf | None = None, *, device: torch.device | None = None
) -> Float[Tensor, "batch sequence vocab"]:
    """Logits in float32 or wider on `probe_ids`.

    All is computed in float32, also by a model that holds its weights in half of it: a module's weights are widened
    while it computes, and no longer.

    Args:
        model: in evaluation mode; unchanged afterwards.
        weight_of: what modules compute with in place of their own parameters.
        device: where to compute, for a model whose parameters are nowhere.
    """
    device = model.device if device is None else device
    with torch.inference_mode(), lending_weights(model, weight_of or _widened_weight):
        return widened(model(input_ids=probe_ids(model).to(device)).logits).cpu()


def _widened_weight(name: str, weight: Tensor) -> Tensor:
    return widened(weight)


def largest_difference(
    expected: Float[Tensor, "batch sequence vocab"], actual: Float[Tensor, "batch sequence vocab"], *, what: str
) -> float:
    """The largest absolute difference between two sets of logits.

    Args:
        what: what was compared, for the message.

    Raises:
        ExportError: it reaches `LOGIT_TOLERANCE`, or one of them is not finite.
    """
    delta = float((expected - actual).abs_().max())
    if not delta < LOGIT_TOLERANCE:
        raise ExportError(
            f"{what}: logits differ by {delta:.3g}",
            why=f"the same weights agree within {LOGIT_TOLERANCE}",
            fix="check the disk and the library versions, then export again",
        )
    return delta
