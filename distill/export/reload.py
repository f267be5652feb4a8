"""Whether a model reloaded from disk says what the one in memory said."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import ExportError
from distill.models import LanguageModel, without_adapters
from distill.numerics import widened

NUM_PROBE_ROWS, NUM_PROBE_TOKENS = 2, 32
LOGIT_TOLERANCE = 1e-3


def probe_logits(model: LanguageModel) -> Float[Tensor, "batch sequence vocab"]:
    """Logits in float32 or wider on fixed arbitrary tokens, the same for every model of one vocabulary."""
    num_tokens = without_adapters(model).get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(num_tokens, (NUM_PROBE_ROWS, NUM_PROBE_TOKENS), generator=generator)
    with torch.inference_mode():
        return widened(model(input_ids=input_ids.to(model.device)).logits).cpu()


def largest_difference(
    expected: Float[Tensor, "batch sequence vocab"], actual: Float[Tensor, "batch sequence vocab"], *, what: str
) -> float:
    """The largest absolute difference between two sets of logits.

    Args:
        what: what was compared, for the message.

    Raises:
        ExportError: it reaches `LOGIT_TOLERANCE`, or one of them is not finite.
    """
    delta = float((expected - actual).abs().max())
    if not delta < LOGIT_TOLERANCE:
        raise ExportError(
            f"{what}: logits differ by {delta:.3g}",
            why=f"the same weights agree within {LOGIT_TOLERANCE}",
            fix="check the disk and the library versions, then export again",
        )
    return delta
