"""The recipe's `safer_instruct` section: texts, the three models, and what is kept."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from distill.decoding import SamplingSettings, ServerSettings
from distill.models import ModelSettings
from distill.preference import InductionSettings, TextFileSettings
from distill.preference.screening import JUDGE_TEMPLATE, PLACE
from distill.settings import Settings
from distill.training import TrainSettings


class EmbeddedTexts(Settings):
    """The embedded world's rude and unsafe texts."""

    source: Literal["embedded"] = "embedded"
    num_texts: int = Field(1200, gt=0, description="lines, ordinary ones and doubles among them")
    ordinary_share: float = Field(0.25, ge=0, le=1, description="of lines that no bad request would get")


class FileTexts(TextFileSettings):
    """A file of texts."""

    source: Literal["file"] = "file"


class EmbeddedRequests(Settings):
    """What guests of the embedded world say, and whether it provokes; its held-out phrasings measure the judge."""

    source: Literal["embedded"] = "embedded"
    num_dialogues: int = Field(600, gt=0, description="from which the ordinary requests are taken")


class FileRequests(TextFileSettings):
    """A file of instructions with a label; a tenth, by the hash of the text, measures the judge."""

    source: Literal["file"] = "file"
    label: str = Field("label", description="the column that says what a row is")
    provoking: tuple[str, ...] = Field(min_length=1, description="values of the label that mean provoking")


class AskedSettings(Settings):
    """A model that is loaded here, or one behind a server."""

    model: ModelSettings | None = Field(None, description="a chat model that is loaded, or made, here")
    endpoint: ServerSettings | None = Field(None, description="an OpenAI-compatible server that has it")
    tuning: TrainSettings | None = Field(None, description="the model learns its part here first; null: it knows it")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("give either model or endpoint")
        if self.model is None and self.tuning is not None:
            raise ValueError("tuning is set beside endpoint, but a server's model is not trained here")
        if self.model is not None and (self.model.recipe is not None or self.model.prune is not None):
            raise ValueError("model needs path or scratch")
        if self.model is not None and self.model.scratch is not None and self.tuning is None:
            raise ValueError("model.scratch is set without tuning: random weights know nothing")
        if self.tuning is not None and self.tuning.objective.name != "sft":
            raise ValueError(
                f"tuning.objective.name is {self.tuning.objective.name}, but sft is what learns from texts"
            )
        return self


class BackwardSettings(AskedSettings):
    """The model that writes the instruction of a text, and what it learns that from."""

    conversations: Literal["teacher", "labelled"] = Field(
        "teacher", description="the data's answered conversations whose roles are swapped"
    )
    num_unfiltered: int = Field(
        0, ge=0, description="of the embedded world's requests with the bad answers they got somewhere, learned too"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0.8, max_new_tokens=64), description="how it writes instructions"
    )


class JudgeSettings(AskedSettings):
    """The model that says whether an instruction provokes harm."""

    requests: Annotated[EmbeddedRequests | FileRequests, Field(discriminator="source")] | None = Field(
        None, description="labelled instructions that tuning learns from"
    )
    template: str = Field(JUDGE_TEMPLATE, description="what it is asked; {instruction} stands for the instruction")
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0.0, max_new_tokens=16), description="how it replies"
    )

    @field_validator("template")
    @classmethod
    def _has_one_place(cls, template: str) -> str:
        if template.count(PLACE) != 1:
            raise ValueError(f"template holds {PLACE} {template.count(PLACE)} times: once is needed")
        return template

    @model_validator(mode="after")
    def _learns_from_something(self) -> Self:
        if (self.tuning is None) != (self.requests is None):
            raise ValueError("tuning and requests go together: a judge is tuned on labelled requests")
        return self


class ExpertSettings(Settings):
    """Who writes the chosen answers: the recipe's teacher, or a model behind a server."""

    endpoint: ServerSettings | None = Field(None, description="an OpenAI-compatible server; null: the teacher")
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0.0, max_new_tokens=256), description="how it answers"
    )


class SaferInstructSettings(InductionSettings):
    """Preference pairs from unlabelled harmful texts."""

    texts: Annotated[EmbeddedTexts | FileTexts, Field(discriminator="source")] = Field(
        description="where the texts come from; they become the rejected answers"
    )
    backward: BackwardSettings = Field(description="writes the instruction that a text answers")
    judge: JudgeSettings = Field(description="keeps the instructions that provoke harm")
    expert: ExpertSettings = Field(ExpertSettings(), description="writes the chosen answers")
