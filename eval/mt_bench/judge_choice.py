"""Which judge the user means: a kind with settings, told in FastChat's words where it has them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from distill.errors import RecipeError
from distill.settings import Settings, with_overrides
from eval.judges import JUDGES, Judge, Rubric, RubricJudge, open_judge
from eval.judges.chat_request import ChatJudgeSettings
from eval.judges.local_settings import RubricSettings, chosen_rubric
from eval.mt_bench.bench_matches import JudgingMode
from eval.mt_bench.prompt_sets import Mode

OPENAI_URL, OPENAI_KEY = "https://api.openai.com/v1", "OPENAI_API_KEY"
MODEL_FIELDS = ("model", "path")
WRITERS = ("endpoint", "local")
"""Kinds of judges that can rate by a rubric: they write words, when they are asked."""


@dataclass(frozen=True)
class JudgeChoice:
    """A judge as the command line names it.

    Attributes:
        kind: a key of `eval.judges.JUDGES`.
        settings: `key=value` words, which come after all else.
        model: its model: a name at the server, or weights.
        name: names the judgment files.
        base_url: of its server; OpenAI's by default, with OPENAI_API_KEY.
        api_key_env: environment variable of the server's key.
        parallel: requests under way at once.
        is_asked: whether calls are made; a plan alone needs no key.
        rubric: rates from 1 to 5 by it; the judgment files are named after it, too.
    """

    kind: str = "endpoint"
    settings: tuple[str, ...] = ()
    model: str | None = None
    name: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    parallel: int | None = None
    is_asked: bool = True
    rubric: Rubric | None = None

    @property
    def is_chat(self) -> bool:
        """Whether it is asked through the chat API, live or by files, so that calls have a price."""
        return self.kind in JUDGES and issubclass(JUDGES[self.kind].settings, ChatJudgeSettings)

    def values(self) -> dict[str, object]:
        """The judge's settings.

        Raises:
            RecipeError: the kind is unknown, or an option does not go with it.
        """
        if self.kind not in JUDGES:
            raise RecipeError(f"--judge is {self.kind}", why=f"known are {', '.join(JUDGES)}", fix="--judge endpoint")
        fields = JUDGES[self.kind].settings.model_fields
        values: dict[str, object] = {}
        if self.model is not None:
            values[self._model_field(JUDGES[self.kind].settings)] = self.model
        if self.base_url is not None:
            values["base_url"] = self.base_url
        elif self.kind == "endpoint" and not any(word.startswith("base_url=") for word in self.settings):
            values |= {"base_url": os.environ.get("OPENAI_BASE_URL", OPENAI_URL), "api_key_env": OPENAI_KEY}
        if self.api_key_env is not None:
            values["api_key_env"] = self.api_key_env
        if self.parallel is not None:
            values["max_concurrent"] = self.parallel
        for name in values:
            if name not in fields:
                raise RecipeError(
                    f"{name} does not go with --judge {self.kind}",
                    why=f"it knows: {', '.join(fields)}",
                    fix="leave it out",
                )
        values = with_overrides(values, list(self.settings))
        if not self.is_asked:
            values.pop("api_key_env", None)
        return values

    def open(self, mode: Mode) -> Judge:
        """The judge, ready to judge.

        Raises:
            RecipeError: the settings are wrong.
            DistillError: it cannot be opened.
        """
        if self.rubric is None:
            return open_judge(self.kind, self.values(), mode=mode, name=self.name)
        if self.kind not in WRITERS:
            raise RecipeError(
                f"--rubric is {self.rubric.name}, and --judge {self.kind}",
                why="a rubric's verdict is read from what the judge writes when it is asked",
                fix=f"--judge {' or '.join(WRITERS)}",
            )
        return RubricJudge(open_judge(self.kind, self.values(), mode=mode), self.rubric, name=self.name)

    def _model_field(self, settings: type[Settings]) -> str:
        field = next((name for name in MODEL_FIELDS if name in settings.model_fields), None)
        if field is None:
            raise RecipeError(
                f"--judge-model is {self.model}, and a judge of kind {self.kind} has no model",
                fix="leave it out, or --judge endpoint",
            )
        return field


def as_mode(word: str) -> JudgingMode:
    """One of FastChat's words for a mode.

    Raises:
        RecipeError: it is none of them.
    """
    for known in get_args(JudgingMode):
        if word == known:
            mode: JudgingMode = known
            return mode
    raise RecipeError(f"--mode is {word}", why=f"known are {', '.join(get_args(JudgingMode))}", fix="--mode single")


def rubric_of(criterion: str | None, rubrics: Path | None) -> Rubric | None:
    """The rubric of a criterion, from a file of the user's or the shipped ones; None where none is named.

    Raises:
        RecipeError: a file is named without a criterion, or holds no such rubric.
        DataError: the file is missing or wrong.
    """
    if criterion is not None:
        return chosen_rubric(RubricSettings(criterion=criterion, rubrics=rubrics))
    if rubrics is not None:
        raise RecipeError(f"--rubrics is {rubrics}, and no criterion is named", fix="--rubric NAME, a name in the file")
    return None
