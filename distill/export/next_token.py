"""How far an artefact's next-token distributions in its runtime are from those of the model it was made from."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import ExportError
from distill.models import LoadedModel
from distill.numerics import log_softmax
from distill.objectives import divergence

MAX_PREFIXES = 8


def probe_prefixes(token_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Where next tokens are compared: at the end and in the middle of chats, the first ones of `token_ids`.

    At its end a trained model may be so certain of the answer that little shows; in the middle of a user's words
    it is not.
    """
    chats = [list(ids) for ids in token_ids[: MAX_PREFIXES // 2] if ids]
    return [prefix for ids in chats for prefix in (ids, ids[: (len(ids) + 1) // 2])]


def next_log_probs(loaded: LoadedModel, prefixes: Sequence[Sequence[int]]) -> list[Float[Tensor, " vocab"]]:
    """The model's distribution after each prefix, natural logarithms in float32, each prefix run by itself."""
    model = loaded.model
    rows = []
    with torch.inference_mode():
        for prefix in prefixes:
            logits = model(input_ids=torch.tensor([list(prefix)], device=model.device)).logits
            rows.append(log_softmax(logits[0, -1]).cpu())
    return rows


def next_token_kl(expected: Sequence[Float[Tensor, " vocab"]], actual: Sequence[Sequence[float]]) -> float:
    """Mean KL(expected || actual) over prefixes, in nats; both are first normalised in float64.

    Raises:
        ExportError: the vocabularies differ in size, or a distribution is not finite.
    """
    kls = []
    for before, after in zip(expected, actual, strict=True):
        if len(after) != len(before):
            raise ExportError(f"the runtime has {len(after)} tokens", why=f"the model has {len(before)}")
        rows = [log_softmax(torch.as_tensor(row).double()) for row in (before, after)]
        kls.append(float(divergence("forward_kl", *rows)))
    kl = sum(kls) / len(kls)
    if not kl < float("inf"):
        raise ExportError("the runtime's next-token distributions are not finite", why="the weights are damaged")
    return kl
