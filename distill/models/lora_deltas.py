"""What LoRA adapters add to each weight, one weight at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel

# Initialisations that leave the base's weights alone; the others take from them what the adapters start with.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


class LoraDeltas:
    """Adapters taken off their model: `model` is the base, and `delta` what they would add to its tensors.

    Scales, patterns of ranks and the orientation of weights are peft's own.
    """

    def __init__(self, adapted: "PeftModel") -> None:
        """Takes `adapted` apart; `why_not_plain_lora` says nothing against it."""
        self._adapter = adapted.active_adapter
        self._layers = {f"{name}.weight": layer for name, layer in _lora_layers(adapted)}
        self.model = cast("PreTrainedModel", adapted.unload())

    def changes(self, name: str) -> bool:
        """Whether something is added to the tensor."""
        return name in self._layers

    @torch.no_grad()
    def delta(self, name: str) -> Tensor:
        """What is added to the tensor, in float32."""
        return cast(Tensor, self._layers[name].get_delta_weight(self._adapter)).float()


def why_not_plain_lora(adapted: "PeftModel") -> str | None:
    """Why the adapters are more than a low-rank update added to each weight; None where they are nothing else."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import TrainableTokensWrapper

    (adapter,) = adapted.peft_config
    config = adapted.peft_config[adapter]
    if config.peft_type != "LORA":
        return f"they are {getattr(config.peft_type, 'value', config.peft_type)}"
    if config.init_lora_weights not in _PLAIN_STARTS:
        return f"they started from the base's weights ({config.init_lora_weights})"
    for name, module in adapted.get_base_model().named_modules():
        if isinstance(module, TrainableTokensWrapper):
            return f"{name} has trainable tokens"
        if not isinstance(module, BaseTunerLayer):
            continue
        if not isinstance(module, LoraLayer) or isinstance(module, ParamWrapper):
            return f"{name} is a {type(module).__name__}"
        if adapter in module.lora_variant:
            return f"{name} is a {type(module.lora_variant[adapter]).__name__}"
        if module.lora_bias.get(adapter):
            return f"{name} has a bias of its own"
    return None


def _lora_layers(adapted: "PeftModel") -> Iterator[tuple[str, "LoraLayer"]]:
    from peft.tuners.lora import LoraLayer

    for name, module in adapted.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            yield name, module
