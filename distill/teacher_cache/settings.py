"""The recipe's section `cache`: which tiers are written, and by whom."""

from typing import Self

from pydantic import Field, model_validator

from distill.settings import Settings
from distill.teacher_cache.claim_owner import LONGEST_LEASE_S
from distill.teacher_cache.codecs import CodecName, TierSettings

TierChoice = CodecName | TierSettings

ORGANISATION = ("max_batch_tokens", "lease_s", "workers", "ray")
"""Settings that say how the work is done, not what is written; a cache stands when they change."""


class RaySettings(Settings):
    """A Ray cluster whose nodes score together (extra `ray`)."""

    address: str | None = Field(None, description="of the cluster (auto, ray://HOST:PORT); none starts one here")
    num_workers: int = Field(1, gt=0, description="how many teachers are loaded")
    num_gpus_per_worker: float = Field(0, ge=0, description="GPUs that each takes")
    num_cpus_per_worker: float = Field(1, gt=0, description="CPU cores that each takes")


class CacheSettings(Settings):
    """How the teacher's scores are computed and stored."""

    codec: TierChoice | tuple[TierChoice, ...] = Field(
        "exact",
        description="one tier or a list of them, by name or with settings: [scores, {codec: top-k, k: 32}]; "
        "exact: whole distributions; scores: log-probs of the tokens only",
    )
    shard_tokens: int = Field(65_536, gt=0, description="completion tokens after which a shard is closed")
    max_batch_tokens: int = Field(8_192, gt=0, description="positions of one forward pass, padding included")
    max_length_tokens: int = Field(512, gt=1, description="longest sequence; what is beyond is cut off")
    lease_s: float = Field(
        120.0, gt=0, le=LONGEST_LEASE_S, description="seconds of silence after which a worker's shard is taken over"
    )
    workers: int = Field(1, gt=0, description="processes on this machine that score together")
    ray: RaySettings | None = Field(None, description="score on a Ray cluster instead of on this machine")

    @property
    def tiers(self) -> tuple[TierSettings, ...]:
        """What is written, one tier a codec."""
        chosen = self.codec if isinstance(self.codec, tuple) else (self.codec,)
        return tuple(tier if isinstance(tier, TierSettings) else TierSettings(codec=tier) for tier in chosen)

    @model_validator(mode="after")
    def _each_codec_once(self) -> Self:
        names = [tier.codec for tier in self.tiers]
        if not names:
            raise ValueError("codec is empty: name at least one tier, for example exact")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"codec names {', '.join(twice)} twice: a cache has one tier a codec")
        return self
