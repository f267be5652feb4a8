"""The table of codecs, and the decoders of what only some of them hold."""

from jaxtyping import Float
from torch import Tensor

from distill.errors import CacheError
from distill.teacher_cache.codecs.codec import Codec
from distill.teacher_cache.codecs.exact import ExactCodec
from distill.teacher_cache.codecs.exact_int8 import ExactInt8Codec
from distill.teacher_cache.codecs.logits_bf16 import LogitsBf16Codec
from distill.teacher_cache.codecs.rows import EncodedRows
from distill.teacher_cache.codecs.sampled import SampledCodec, Samples
from distill.teacher_cache.codecs.scores import ScoresCodec
from distill.teacher_cache.codecs.tier import CodecName, HeadShape, TierSettings
from distill.teacher_cache.codecs.top_k import TopK, TopKCodec

CODECS: dict[CodecName, type[Codec]] = {
    "scores": ScoresCodec,
    "exact": ExactCodec,
    "exact-int8": ExactInt8Codec,
    "logits-bf16": LogitsBf16Codec,
    "top-k": TopKCodec,
    "sampled": SampledCodec,
}
r"""The table of codecs. V is the head's rows (padding counts), d its columns. A number rounded to bfloat16, float16 or
float32 moves by at most 2^-8, 2^-11 or 2^-24 of itself. Everything is measured in float32 from unrounded states, so
beside these bounds stands the float32 noise of the head product, about 1e-6 nats.

`scores`: 4 bytes
    float32 log-prob of the completion token: off by at most 2^-24 of itself, below 1e-6 nats for log-probs down to
    -16. Nothing else of the distribution is kept.

`exact`: 2 d bytes (4 d with `hidden_dtype: float32`)
    The distribution is log_softmax(head(h)) with h rounded. Rounding to bfloat16 moves logit v by at most
    :math:`d_v = 2^{-8} |s| \sum_i |h_i W_{vi}|` (s the logit scale; a soft-cap has slope at most 1 and only shrinks
    this). With :math:`D = \max_v d_v`, Hoeffding's lemma bounds the loss of information at

    .. math:: KL(p \| \tilde p) \le \frac{(2 D)^2}{8} = \frac{D^2}{2} \text{ nats per token.}

    A worst case: errors are independent in practice. The states of a teacher that ran in bfloat16 come back as they
    were. Those of a float32 teacher lose 2e-5 to 3e-5 nats on wide teachers of random weights (d = 1,024, V = 32,000,
    entropy 2 nats) and less than 1e-6 on the embedded teacher; `hidden_dtype: float32` loses nothing.

`exact-int8`: d + ceil(d / group_size) bytes; 1.063 d for groups of 16
    States are rotated, h -> R h with R R^T = n (rotation.py), and each rotated coordinate is off by at most half the
    step of its group. So :math:`d_v = |s| \sum_j |R W_v|_j step_j / 2 n` and again :math:`KL \le D^2 / 2`. Mean KL on
    wide bfloat16 teachers of random weights (d = 1,024, V = 32,000, entropy 2 nats): 3.0e-4 nats where all
    directions of a state count alike, 5.2e-4 where few decide most of a logit (4e-4 in groups of 8). Channels that
    are many times as large as the others, as trained models have them, cost nothing more: without the rotation they
    cost three times as much. Below 1e-6 on the embedded teacher.

`logits-bf16`: 2 V bytes
    Log-probs rounded to bfloat16 and made to sum to one again. With :math:`e_v` the error of the log-prob of v,
    :math:`KL = \log E_p[e^{e}] - E_p[e] \le E_p[e^2 e^{|e|} / 2]` and :math:`|e_v| \le 2^{-8} |\log p_v|`, so

    .. math:: KL(p \| \tilde p) \le 2^{-17} \sum_v p_v^{1 - 2^{-8}} (\log p_v)^2 \text{ nats per token.}

    Measured: below 1e-6 on the embedded teacher, 1e-5 on wide random ones of 2 nats.

`top-k`: ceil(k ceil(log2 V) / 8) + 2 k + 8 bytes; 280 for k = 64 and V = 151,936
    Ids are exact. Listed log-probs are off by at most 2^-11 of themselves, so what the list and the tail as one
    event lose is below :math:`2^{-23} \sum_v p_v^{1 - 2^{-11}} (\log p_v)^2`, some 1e-6 nats. The tail mass is the
    sum of all other probabilities in float32, exact to 1e-6. How the tail is spread is lost: at most
    tail mass * log(V - k) nats, and no codec that keeps a list can bound it better.

`sampled`: 3 bytes a distinct token drawn + 1; at most 3 num_samples + 1
    counts / num_samples is unbiased with variance :math:`p_v (1 - p_v) / num\_samples` for each token, so the
    gradient of a cross-entropy against it is unbiased too. Measured for 50 draws: 37 bytes on wide random teachers of
    2 nats, 5 on the embedded one, which is all but certain of most tokens.
"""


def make_codec(settings: TierSettings, shape: HeadShape) -> Codec:
    """The codec of a tier.

    Raises:
        CacheError: the settings do not fit the head.
    """
    return CODECS[settings.codec](settings, shape)


def decode_top_k(codec: Codec, rows: EncodedRows) -> TopK:
    """The list of likeliest tokens of each position.

    Raises:
        CacheError: the codec is not `top-k`.
    """
    if not isinstance(codec, TopKCodec):
        raise _no(codec, "lists of likeliest tokens", "top-k")
    return codec.decode(rows)


def decode_samples(codec: Codec, rows: EncodedRows) -> Samples:
    """The tokens drawn at each position.

    Raises:
        CacheError: the codec is not `sampled`.
    """
    if not isinstance(codec, SampledCodec):
        raise _no(codec, "drawn tokens", "sampled")
    return codec.decode(rows)


def hidden_states(codec: Codec, rows: EncodedRows) -> Float[Tensor, "tokens hidden"]:
    """Final hidden states as they were stored, in float32.

    Raises:
        CacheError: the codec is neither `exact` nor `exact-int8`.
    """
    if not isinstance(codec, ExactCodec | ExactInt8Codec):
        raise _no(codec, "hidden states", "exact")
    return codec.hidden_states(rows)


def _no(codec: Codec, what: str, wanted: CodecName) -> CacheError:
    return CacheError(
        f"codec {codec.name} stores no {what}",
        why=f"it keeps {codec.summary}",
        fix=f"distill cache RECIPE cache.codec=[{codec.name},{wanted}]",
    )
