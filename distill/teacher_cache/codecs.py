"""Named encodings of what the teacher says about a token, each with its size and its error bound."""

from dataclasses import dataclass
from typing import Literal

import torch

CodecName = Literal["scores", "exact"]
HiddenDtype = Literal["bfloat16", "float32"]

HIDDEN_DTYPES: dict[HiddenDtype, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}

TOKEN_ID_BYTES = 4
LOG_PROB_BYTES = 4


@dataclass(frozen=True)
class Codec:
    """One way to write a sequence down; every codec keeps each token's id (int32) and log-prob (float32)."""

    name: CodecName
    has_distributions: bool
    summary: str

    def bytes_per_token(self, *, hidden_size: int, hidden_dtype: HiddenDtype) -> int:
        """Bytes that one completion token takes in a shard, headers and the head (stored once) left out."""
        scores = TOKEN_ID_BYTES + LOG_PROB_BYTES
        return scores + hidden_size * HIDDEN_DTYPES[hidden_dtype].itemsize if self.has_distributions else scores


CODECS: dict[CodecName, Codec] = {
    "scores": Codec("scores", False, "log-prob of each completion token"),
    "exact": Codec("exact", True, "final hidden state of each completion token, the output head once"),
}
r"""The table of codecs. Token log-probs are computed from the unrounded hidden states in both.

`scores`
    Log-probs as float32: relative rounding error :math:`2^{-24}`, below :math:`10^{-6}` nats for log-probs
    down to -16. Whole distributions cannot be had.

`exact`
    The distribution is rebuilt as log_softmax(head(h)) with h rounded to `hidden_dtype`. Rounding to
    bfloat16 moves each coordinate by at most :math:`2^{-8} |h_i|`, so it moves logit v by at most
    :math:`d_v = 2^{-8} |s| \sum_i |h_i W_{vi}|` (s the logit scale; a soft-cap has slope at most 1 and only
    shrinks this). With :math:`d = \max_v d_v`, Hoeffding's lemma bounds the loss of information at

    .. math:: KL(p \| \tilde p) \le \frac{(2 d)^2}{8} = \frac{d^2}{2} \text{ nats per token.}

    The bound is a worst case; the errors are independent in practice and the measured KL lies far below it.
    With `hidden_dtype: float32` nothing is rounded and what remains is float32 arithmetic.
"""
