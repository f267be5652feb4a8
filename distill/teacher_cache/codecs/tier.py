"""What shapes the bytes of one tier of a cache: the codec's settings and the size of the teacher's head."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from distill.settings import Settings

CodecName = Literal["scores", "exact", "exact-int8", "logits-bf16", "top-k", "sampled"]
HiddenDtype = Literal["bfloat16", "float32"]

HIDDEN_DTYPES: dict[HiddenDtype, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}

# Which codec reads which key; a key that no codec of the tier reads must stand at its default.
_USED_BY: dict[str, CodecName] = {
    "hidden_dtype": "exact",
    "group_size": "exact-int8",
    "k": "top-k",
    "num_samples": "sampled",
    "seed": "sampled",
}


class TierSettings(Settings):
    """One tier: a codec and what it is told. Equal settings and an equal teacher give equal bytes."""

    codec: CodecName = Field(description="how a token's distribution is written down")
    hidden_dtype: HiddenDtype = Field("bfloat16", description="exact: what hidden states are rounded to")
    group_size: int = Field(16, ge=1, le=65536, description="exact-int8: neighbouring coordinates that share a step")
    k: int = Field(64, ge=1, le=65536, description="top-k: tokens kept for each position")
    num_samples: int = Field(50, ge=1, le=63, description="sampled: tokens drawn for each position, with replacement")
    seed: int = Field(0, ge=0, lt=2**63, description="sampled: what the draws come from, beside the sequence's id")

    @model_validator(mode="after")
    def _only_the_codecs_own_keys(self) -> Self:
        for key, codec in _USED_BY.items():
            value = getattr(self, key)
            if codec != self.codec and value != type(self).model_fields[key].default:
                raise ValueError(f"{key} is {value!r}, but codec {self.codec} does not read it (codec {codec} does)")
        return self


@dataclass(frozen=True)
class HeadShape:
    """Sizes of the teacher's output head; its rows count the padding of the vocabulary too."""

    vocab_size: int
    hidden_size: int
