"""Each tensor of base and adapters together, in float32, when it is asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from distill.errors import ExportError
from distill.export.tensor_files import TensorFiles, TensorShape
from distill.models import LoraDeltas
from distill.numerics import widened

_PREFIX, _BASE_LAYER = "base_model.model.", ".base_layer."
_LORA_PARTS = (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B")


class AdapterFile:
    """What a folder of LoRA adapters holds besides low-rank factors: whole tensors in place of the base's own."""

    def __init__(self, folder: Path) -> None:
        """Reads the header."""
        self._files = TensorFiles(folder, pattern="adapter_model*.safetensors")
        plain = (key for key in self._files.shapes if not any(part in key for part in _LORA_PARTS))
        self.whole = {key.removeprefix(_PREFIX).replace(_BASE_LAYER, "."): key for key in plain}

    @property
    def dtypes(self) -> set[torch.dtype]:
        """Of the whole tensors."""
        return {self._files.shapes[key].dtype for key in self.whole.values()}

    def shape(self, name: str) -> TensorShape:
        """Of the whole tensor that takes the place of the base's `name`."""
        return self._files.shapes[self.whole[name]]

    def load(self, name: str) -> Tensor:
        """The whole tensor that takes the place of the base's `name`."""
        return self._files.load(self.whole[name])


class MergedTensors:
    """Tensor by tensor: the base's, or what adapters put in its place, plus what they add.

    `shapes` names all that belong to the merged model. A head that is the embedding is there once; where adapters
    made two of them, twice, and `ties_embeddings` is false.
    """

    def __init__(
        self,
        base: TensorFiles,
        *,
        tied: Mapping[str, str],
        wanted: set[str],
        adapters: tuple[AdapterFile, LoraDeltas] | None = None,
        in_memory: Mapping[str, Callable[[], Tensor]] | None = None,
    ) -> None:
        """Finds out what the merged model is made of.

        Args:
            base: the checkpoint.
            tied: names of tensors that are others of the model, such as its head that is its embedding.
            wanted: names of all the model's tensors.
            adapters: what changes the base.
            in_memory: what stands for the base's tensors in place of its files.

        Raises:
            ExportError: the checkpoint lacks a tensor.
        """
        self._base, self._adapters, self._in_memory = base, adapters, in_memory or {}
        self._tied = dict(tied)
        missing = sorted(wanted - base.shapes.keys() - tied.keys() - self._whole.keys())
        if missing:
            raise ExportError(
                f"the checkpoint has no tensor {missing[0]}",
                why="the model needs it; it would be filled with random numbers",
                fix="copy the model again",
            )
        self._own_head = {name for name, source in tied.items() if self._differ(name, source)}
        self.ties_embeddings = bool(tied) and not self._own_head
        names = sorted(wanted - (tied.keys() - self._own_head))
        self.shapes = {name: self._shape(name) for name in names}

    @property
    def _whole(self) -> Mapping[str, str]:
        return {} if self._adapters is None else self._adapters[0].whole

    def load(self, name: str) -> Tensor:
        """The merged tensor: float32 where it is floating, of adapters or not."""
        source = self._tied.get(name, name)
        if self._adapters is not None and name in self._whole:
            tensor = self._adapters[0].load(name)
        elif source in self._in_memory:
            tensor = self._in_memory[source]()
        else:
            tensor = self._base.load(source)
        if not tensor.is_floating_point():
            return tensor
        tensor = widened(tensor)
        if self._adapters is not None and self._adapters[1].changes(name):
            return tensor + self._adapters[1].delta(name).to(tensor.device)
        return tensor

    def _is_changed(self, name: str) -> bool:
        return self._adapters is not None and (name in self._whole or self._adapters[1].changes(name))

    def _differ(self, name: str, source: str) -> bool:
        """Whether two tensors that were one are two after the merge."""
        if not (self._is_changed(name) or self._is_changed(source)):
            return False
        return not torch.equal(self.load(name), self.load(source))

    def _shape(self, name: str) -> TensorShape:
        if name in self._whole and self._adapters is not None:
            return self._adapters[0].shape(name)
        return self._base.shapes[self._tied.get(name, name)]
