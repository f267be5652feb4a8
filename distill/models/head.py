"""Splits a model into what makes final hidden states and the head that turns them into logits."""

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from distill.errors import ModelError
from distill.models.adapters import LanguageModel, without_adapters
from distill.objectives.output_head import OutputHead

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PROBE_TOLERANCE = 1e-3


def output_head(model: LanguageModel) -> OutputHead:
    """The model's head, its weights by reference.

    The head is checked against the model itself on two tokens, so a family whose logits are made in another way is
    refused rather than scored wrongly.

    Raises:
        ModelError: the head is not one linear map followed by a scale and a soft-cap.
    """
    module = head_module(model)
    scale, soft_cap = scale_and_soft_cap(model)
    head = OutputHead(module.weight.detach(), None if module.bias is None else module.bias.detach(), scale, soft_cap)
    _check(model, head)
    return head


def head_module(model: LanguageModel) -> nn.Linear:
    """The linear module that makes logits.

    Raises:
        ModelError: there is none, or its weights are quantized or have adapters.
    """
    module = without_adapters(model).get_output_embeddings()
    module = getattr(module, "modules_to_save", {}).get("default", module)
    if not isinstance(module, nn.Linear) or not module.weight.is_floating_point():
        raise ModelError(
            f"the output head of {without_adapters(model).config.model_type} is a {type(module).__name__}",
            why="a plain linear map is needed",
            fix="leave the head out of quantization and LoRA's target_modules, or name another model",
        )
    return module


def scale_and_soft_cap(model: LanguageModel) -> tuple[float, float | None]:
    """What multiplies the logits (Cohere's `logit_scale`, 1 / Granite's `logits_scaling`), and Gemma's soft-cap."""
    config = _text_config(model)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    soft_cap = getattr(config, "final_logit_softcapping", None)
    factor = (1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor))
    return factor, None if soft_cap is None else float(soft_cap)


def backbone(model: LanguageModel) -> nn.Module:
    """The model without its head: ids to final hidden states, after the last norm."""
    return cast(nn.Module, without_adapters(model).get_decoder())


def final_hidden_states(
    model: LanguageModel,
    *,
    input_ids: Int[Tensor, "batch sequence"],
    attention_mask: Bool[Tensor, "batch sequence"] | Int[Tensor, "batch sequence"],
    position_ids: Int[Tensor, "batch sequence"] | None = None,
) -> Float[Tensor, "batch sequence hidden"]:
    """What the head sees: the states after the last norm; no logits are made."""
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask.to(torch.int64), "use_cache": False}
    if position_ids is not None:
        inputs["position_ids"] = position_ids
    return cast(Tensor, backbone(model)(**inputs).last_hidden_state)


def _text_config(model: LanguageModel) -> "PreTrainedConfig":
    return without_adapters(model).config.get_text_config(decoder=True)


@torch.no_grad()
def _check(model: LanguageModel, head: OutputHead) -> None:
    was_training = model.training
    model.eval()
    ids = torch.tensor([[1, 2]], device=head.weight.device)
    mask = torch.ones_like(ids)
    hidden_states = final_hidden_states(model, input_ids=ids, attention_mask=mask)
    expected = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    model.train(was_training)
    tolerance = PROBE_TOLERANCE if hidden_states.dtype == torch.float32 else 0.05
    error = (head.logits(hidden_states) - expected).abs().max().item()
    if not error <= tolerance * max(1.0, expected.abs().max().item()):
        raise ModelError(
            f"the logits of {without_adapters(model).config.model_type} differ by {error:.3g} from its output head's",
            why="this family makes its logits in a way this project does not know; its scores would be wrong",
            fix="use a model of another family",
        )
