"""The recipe's section `export`."""

import difflib
from pathlib import Path

from pydantic import Field, field_validator

from distill.export.formats import FORMATS
from distill.models import DtypeName
from distill.settings import Settings


class ExportSettings(Settings):
    """Which artefacts are written, how they are tested, and the gates they have to pass."""

    formats: tuple[str, ...] = Field(min_length=1, description="format names; safetensors always comes too")
    dtype: DtypeName | None = Field(None, description="of the merged weights; none: the one the model is stored in")
    num_fidelity_conversations: int = Field(64, gt=0, description="held-out chats on which KL is measured")
    num_smoke_prompts: int = Field(10, gt=0, description="prompts each artefact answers in its runtime")
    max_new_tokens: int = Field(64, gt=0, description="longest answer in the smoke test")
    teacher: str | None = Field(None, description="teacher cache or model: measures KL to it before and after")
    licence: str | None = Field(None, description="of the artefacts, as the hub spells it; for the model cards")
    teacher_licence: str | None = Field(None, description="of the teacher or its answers; for the model cards")
    data_licence: str | None = Field(None, description="of the training data; for the model cards")
    calibration: Path | None = Field(None, description="training conversations (JSONL) that quantizers may fit to")
    llmcompressor_python: Path | None = Field(None, description="interpreter of llm-compressor's own environment")
    measures_speed: bool = Field(True, description="load each artefact in a process of its own: seconds, memory")
    max_kl: float | None = Field(None, gt=0, description="gate: largest mean KL to the merged model, nats per token")
    min_top1: float | None = Field(None, gt=0, le=1, description="gate: smallest share of tokens ranked first alike")

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for name in formats:
            if name not in FORMATS:
                nearest = difflib.get_close_matches(name, FORMATS, n=1)
                hint = f"did you mean {nearest[0]}?" if nearest else f"known formats: {', '.join(FORMATS)}"
                raise ValueError(f"{name!r} is not a known format ({hint})")
        return tuple(dict.fromkeys(formats))
