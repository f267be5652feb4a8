"""Judges by kind: what each is told in settings, and how it is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from distill.errors import RecipeError
from distill.settings import Settings, validated
from eval.judges.base import Judge
from eval.judges.batch_file import BatchJudge
from eval.judges.chat_request import ChatJudgeSettings
from eval.judges.endpoint import EndpointJudge
from eval.judges.local_settings import (
    EbrmJudgeSettings,
    LocalTextJudgeSettings,
    LogitJudgeSettings,
    RewardJudgeSettings,
    open_ebrm_judge,
    open_logit_judge,
    open_reward_judge,
    open_text_judge,
)
from eval.judges.mock import MockJudge, MockSettings
from eval.judges.replay import ReplayJudge
from eval.mt_bench.prompt_sets import Mode


class BatchSettings(ChatJudgeSettings):
    """A judge asked through files."""

    base_url: str = Field("http://batch.invalid", description="not used: the files are carried by hand")
    results: tuple[Path, ...] = Field(
        (), description="the batch's output and error files; none while requests are written"
    )


class ReplaySettings(Settings):
    """Verdicts that were given before."""

    path: Path = Field(description="a <judge>_single.jsonl or <judge>_pair.jsonl")


@dataclass(frozen=True)
class JudgeKind:
    """Settings, and how a judge is made of them, the mode and the name that the user gives it, if any."""

    settings: type[Settings]
    open: Callable[[Any, Mode, str | None], Judge]


JUDGES: dict[str, JudgeKind] = {
    "endpoint": JudgeKind(ChatJudgeSettings, lambda settings, mode, name: EndpointJudge(settings, name=name)),
    "batch": JudgeKind(
        BatchSettings, lambda settings, mode, name: BatchJudge(settings, results=settings.results, name=name)
    ),
    "replay": JudgeKind(ReplaySettings, lambda settings, mode, name: ReplayJudge(settings.path, mode=mode, name=name)),
    "mock": JudgeKind(MockSettings, lambda settings, mode, name: MockJudge(settings, name=name)),
    "local": JudgeKind(LocalTextJudgeSettings, lambda settings, mode, name: open_text_judge(settings, name=name)),
    "logit": JudgeKind(LogitJudgeSettings, lambda settings, mode, name: open_logit_judge(settings, name=name)),
    "reward": JudgeKind(RewardJudgeSettings, lambda settings, mode, name: open_reward_judge(settings, name=name)),
    "ebrm": JudgeKind(EbrmJudgeSettings, lambda settings, mode, name: open_ebrm_judge(settings, name=name)),
}


def open_judge(kind: str, values: Mapping[str, object], *, mode: Mode, name: str | None = None) -> Judge:
    """The judge of a kind, opened.

    Args:
        kind: a key of `JUDGES`.
        values: its settings.
        mode: what it will judge.
        name: names its judgment files; each kind has a default.

    Raises:
        RecipeError: there is no such kind, or the settings are wrong.
        DistillError: the judge cannot be opened.
    """
    if kind not in JUDGES:
        raise RecipeError(f"judge kind {kind!r} is not known", why=f"known are {', '.join(JUDGES)}", fix="choose one")
    settings = validated(JUDGES[kind].settings, values, source=f"judge {kind}")
    return JUDGES[kind].open(settings, mode, name)
