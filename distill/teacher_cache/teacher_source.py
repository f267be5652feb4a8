"""Where a worker finds its model, in words that travel to another process or host."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from distill.models import DtypeName, LoadedModel, Quantization, Tokenizer, load_model, load_tokenizer
from distill.models.distributed import Placement


@dataclass(frozen=True)
class TeacherSource:
    """How a model is loaded; equal sources give equal models, and equal fingerprints, wherever they are loaded."""

    model: str
    dtype: DtypeName = "float32"
    device: str = "auto"
    placement: Placement = "one-device"
    quantization: Quantization | None = None
    revision: str | None = None
    chat_template: str | None = None

    def load(self, *, worker: int = 0) -> LoadedModel:
        """Loads the model; worker after worker of one machine gets GPU after GPU.

        Raises:
            ModelError: `load_model` refuses.
        """
        return load_model(
            self._named,
            dtype=self.dtype,
            device=device_of_worker(self.device, worker=worker),
            quantization=self.quantization,
            revision=self.revision,
            chat_template=self._template,
            placement=self.placement,
        )

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer alone; no weights are read.

        Raises:
            ModelError: there is none.
        """
        return load_tokenizer(self._named, revision=self.revision, chat_template=self._template)

    def absolute(self) -> "TeacherSource":
        """The same source for a process that runs elsewhere: a folder of this machine by its whole path."""
        model = str(Path(self.model).resolve()) if Path(self.model).exists() else self.model
        template = None if self.chat_template is None else str(Path(self.chat_template).resolve())
        return replace(self, model=model, chat_template=template)

    def to_json(self) -> dict[str, object]:
        """The same as plain values; `TeacherSource(**values)` is the way back."""
        return asdict(self)

    @property
    def _named(self) -> str | Path:
        """A folder that exists as a path, so that it is never taken for a hub id."""
        return Path(self.model) if Path(self.model).exists() else self.model

    @property
    def _template(self) -> Path | None:
        return None if self.chat_template is None else Path(self.chat_template)


def device_of_worker(device: str, *, worker: int, num_gpus: int | None = None) -> str:
    """The device of one of several workers of a machine: they take its GPUs in turn, unless one is named.

    Args:
        device: as a recipe says it.
        worker: its number on this machine.
        num_gpus: of this machine; None asks torch.
    """
    count = torch.cuda.device_count() if num_gpus is None else num_gpus
    return f"cuda:{worker % count}" if device in ("auto", "cuda") and count > 1 else device
