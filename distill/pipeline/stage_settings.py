"""The recipe sections that belong to the pipeline: the teacher, distilled fine-tuning and evaluation."""

from typing import Literal, Self

from pydantic import Field, model_validator

from distill.decoding import EndpointSettings, LinearAlignmentSettings, SamplingSettings
from distill.models import ModelSettings
from distill.settings import Settings
from distill.training import TrainSettings

OF_LOADED_WEIGHTS = ("dtype", "device", "placement", "quantization", "lora")


class TeacherSettings(ModelSettings):
    """Who teaches: a model that is loaded here, or one behind a server."""

    endpoint: EndpointSettings | None = Field(
        None,
        description="a server that has the teacher; of `path` only the tokenizer and the chat template are read then",
    )

    @model_validator(mode="after")
    def _an_endpoint_loads_nothing(self) -> Self:
        if self.endpoint is None:
            return self
        if self.path is None:
            raise ValueError("endpoint needs path: a folder or hub id with the teacher's tokenizer and chat template")
        for name in OF_LOADED_WEIGHTS:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is set beside endpoint, but the server decides how the weights are loaded")
        return self


class DistilledSftSettings(TrainSettings):
    """Supervised fine-tuning: on the teacher's answers to the prompts (dSFT), or on the data's own answers."""

    answers: Literal["teacher", "data"] = Field("teacher", description="whose answers the student learns")
    labelled: Literal["none", "labelled", "teacher"] = Field(
        "none",
        description="rows of the data whose own answers are learned too: the small labelled set or the teacher's",
    )
    num_prompts: int | None = Field(
        None,
        gt=0,
        description="prompts the teacher answers here, the first ones; stage pairs then takes the others, which the"
        " student has not learned; none: both stages take all",
    )
    leave_out: tuple[str, ...] = Field(
        (),
        description="categories or intents of facts.turns: dialogues with such a turn are not learned here, nor asked"
        " in stage pairs",
    )
    sampling: SamplingSettings = Field(SamplingSettings(temperature=0.0), description="how the teacher answers")
    linear_alignment: LinearAlignmentSettings | None = Field(
        None, description="a principle that steers the teacher's answers"
    )

    @model_validator(mode="after")
    def _asks_only_a_teacher(self) -> Self:
        if self.answers == "data" and self.num_prompts is not None:
            raise ValueError("num_prompts is set, but answers is data: no teacher answers prompts")
        if self.answers == "data" and self.linear_alignment is not None:
            raise ValueError("linear_alignment is set, but answers is data: no teacher answers that could be steered")
        return self


class EvaluateSettings(Settings):
    """What is measured on the teacher, on each student and on each export."""

    num_conversations: int = Field(400, gt=0, description="held-out test conversations answered for the accuracy")
    num_divergence_conversations: int = Field(
        64, gt=0, description="held-out conversations on which KL to the teacher is measured"
    )
    num_export_conversations: int = Field(
        100, gt=0, description="test conversations answered by each export; the same first ones of the accuracy set"
    )
    sampling: SamplingSettings = Field(SamplingSettings(temperature=0.0), description="how the models answer")
    linear_alignment: LinearAlignmentSettings | None = Field(
        None, description="a principle that steers every model's answers; those of GGUF files cannot be"
    )
    num_samples_shown: int = Field(8, ge=0, description="sample answers side by side in the report")
