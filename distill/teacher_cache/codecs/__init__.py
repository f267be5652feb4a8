"""Named encodings of what the teacher says about a token, each with its size and its error bound."""

from distill.teacher_cache.codecs.codec import MAX_LOGITS, Codec, encode_tiers
from distill.teacher_cache.codecs.rows import ENTRY_BYTES, EncodedRows, joined
from distill.teacher_cache.codecs.sampled import Samples
from distill.teacher_cache.codecs.table import CODECS, decode_samples, decode_top_k, hidden_states, make_codec
from distill.teacher_cache.codecs.tier import HIDDEN_DTYPES, CodecName, HeadShape, HiddenDtype, TierSettings
from distill.teacher_cache.codecs.top_k import TopK

__all__ = [
    "CODECS",
    "ENTRY_BYTES",
    "HIDDEN_DTYPES",
    "MAX_LOGITS",
    "Codec",
    "CodecName",
    "EncodedRows",
    "HeadShape",
    "HiddenDtype",
    "Samples",
    "TierSettings",
    "TopK",
    "decode_samples",
    "decode_top_k",
    "encode_tiers",
    "hidden_states",
    "joined",
    "make_codec",
]
