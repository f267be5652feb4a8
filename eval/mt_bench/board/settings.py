"""How a scoreboard is computed and what stands on it beside the scores."""

from pydantic import Field

from distill.settings import Settings


class BoardSettings(Settings):
    """What a user may ask of a scoreboard."""

    seed: int = Field(0, description="of every resampling")
    num_resamples: int = Field(10_000, gt=0, description="bootstrap means that each interval is read from")
    num_fits: int = Field(1_000, gt=0, description="refits of Bradley-Terry and of length control")
    compat: bool = Field(False, description="FastChat's own numbers beside ours")
    baseline: str | None = Field(None, description="pairs: only comparisons with this model count; None: all")
    teacher: str | None = Field(None, description="warns of a judge that is its kin, whether it was judged or not")
    families: dict[str, str] = Field(default_factory=dict, description="family of a model or judge by its name")
