"""The recipe's `teacher` and `student`: which model, and how it is loaded or made."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from distill.errors import ModelError
from distill.models.adapters import LoraSettings
from distill.models.distributed import Placement
from distill.models.load import DtypeName, LoadedModel, load_model
from distill.models.prune import PruneSettings
from distill.models.quantized import Quantization
from distill.models.scratch import ScratchSettings
from distill.settings import Settings


class ModelSettings(Settings):
    """One model of a recipe; exactly one of path, recipe, scratch and prune says where its weights come from."""

    path: str | None = Field(None, description="a folder, a hub id, or `embedded`: the teacher in the package")
    revision: str | None = Field(None, description="of a hub id")
    recipe: Path | None = Field(None, description="the recipe whose run makes the model")
    chat_template: Path | None = Field(
        None,
        description="a jinja file in place of the tokenizer's own template; for tokenizers that have none, such as"
        " Vicuna's",
    )
    scratch: ScratchSettings | None = Field(None, description="random weights of this shape")
    prune: PruneSettings | None = Field(None, description="cut out of the teacher")
    dtype: DtypeName = Field("float32", description="of weights and activations")
    device: str = Field("auto", description="auto: cuda where there is one, else cpu")
    placement: Placement = Field("one-device", description="over which devices the weights of a large model go")
    quantization: Quantization | None = Field(None, description="bitsandbytes format while it runs here")
    lora: LoraSettings | None = Field(None, description="train low-rank adapters in place of all weights")
    tokenizer_vocab_size: int | None = Field(None, gt=0, description="train an own tokenizer of this size on the data")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("path", "recipe", "scratch", "prune") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"exactly one of path, recipe, scratch, prune is needed, not {found}")
        if self.tokenizer_vocab_size is not None and self.scratch is None:
            raise ValueError("tokenizer_vocab_size needs scratch: a model that exists has its tokenizer")
        if self.chat_template is not None and self.path is None:
            raise ValueError("chat_template needs path: a model that is made here has the template it is made with")
        return self


def load(settings: ModelSettings) -> LoadedModel:
    """Loads the model that `settings.path` names, as the settings say; adapters are added by `add_lora` afterwards.

    Raises:
        ModelError: the settings name no path, or `load_model` refuses.
    """
    if settings.path is None:
        raise ModelError(
            "the model's settings name no path",
            why="a model that a recipe makes, that is new, or that is pruned has to be made before it is loaded",
            fix="set path to its folder",
        )
    return load_model(
        settings.path,
        dtype=settings.dtype,
        device=settings.device,
        quantization=settings.quantization,
        revision=settings.revision,
        chat_template=settings.chat_template,
        placement=settings.placement,
    )
