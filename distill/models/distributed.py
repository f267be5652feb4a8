"""A teacher too large for one device: spread over a machine's devices, or over a launcher's ranks."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from distill.errors import ModelError
from distill.models.adapters import LanguageModel, without_adapters
from distill.models.quantized import Conversion
from distill.models.world import import_deepspeed, process_group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Placement = Literal["one-device", "device-map", "zero-3", "zero-3-offload"]

PLACEMENTS: dict[Placement, str] = {
    "one-device": "all weights on one device",
    "device-map": "layer after layer over this machine's GPUs, then its memory, then its disk (accelerate)",
    "zero-3": "every weight cut over all ranks and gathered for its product (DeepSpeed ZeRO-3)",
    "zero-3-offload": "as zero-3, the pieces in the machine's memory until they are needed (ZeRO-Inference)",
}
"""The table of placements. The weights, and so the fingerprint of the model, are the same in all of them."""

_ENGINE = "_distill_engine"
_HALF_PRECISION = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def is_partitioned(placement: Placement) -> bool:
    """Whether all ranks of a launcher hold one model together, so that each has to take part in every pass."""
    return placement in ("zero-3", "zero-3-offload")


def require_loadable(placement: Placement, *, kind: str, quantization: Conversion | None) -> None:
    """Refuses what DeepSpeed cannot cut into pieces.

    Raises:
        ModelError: the placement is one of ZeRO-3's, and the model is quantized, adapters, or a GGUF file.
    """
    if not is_partitioned(placement):
        return
    if quantization is not None or kind != "model":
        found = f"quantization {quantization}" if quantization is not None else f"a model of kind {kind}"
        raise ModelError(
            f"placement is {placement}, with {found}",
            why="ZeRO-3 cuts whole, unquantized weights into pieces and knows no others",
            fix="placement=device-map, or convert the model first: distill export MODEL --formats safetensors",
        )


def device_map_arguments(max_memory: dict[int | str, str] | None = None) -> dict[str, Any]:
    """What `from_pretrained` needs to spread a model over this machine.

    Args:
        max_memory: most bytes per device ("2GB", by GPU number or "cpu"); None takes what is free.
    """
    return {"device_map": "auto"} | ({} if max_memory is None else {"max_memory": max_memory})


def inference_plan(dtype: torch.dtype, *, offload: bool) -> dict[str, Any]:
    """DeepSpeed's configuration for a model that is only read: ZeRO stage 3, no optimizer."""
    zero: dict[str, Any] = {"stage": 3, "contiguous_gradients": False, "overlap_comm": True}
    if offload:
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    plan: dict[str, Any] = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero}
    if dtype in _HALF_PRECISION:
        plan[_HALF_PRECISION[dtype]] = {"enabled": True}
    return plan


@contextmanager
def cutting_weights(plan: dict[str, Any]) -> Iterator[None]:
    """Inside the block transformers loads each weight straight into pieces: no rank ever holds the whole model."""
    with process_group():
        import_deepspeed()
        integration = importlib.import_module("transformers.integrations.deepspeed")
        kept_alive = integration.HfDeepSpeedConfig(plan)
        try:
            yield
        finally:
            integration.unset_hf_deepspeed_config()
            del kept_alive


def with_gathering_hooks(model: "PreTrainedModel", plan: dict[str, Any]) -> "PreTrainedModel":
    """The model whose every layer gathers its pieces before its product and lets them go after it.

    All ranks have to call it equally often. The output head stays whole on every rank: it is read, not called, by
    whatever scores tokens, and stored with the cache.
    """
    with process_group() as world:
        deepspeed = import_deepspeed()
        head = _linear_head(model)
        device = torch.device("cuda", world.local_rank) if torch.cuda.is_available() else torch.device("cpu")
        with deepspeed.zero.GatheredParameters(list(head.parameters())):
            model.set_output_embeddings(_copied(head, device=device))
        # The body alone is the engine's: a pass begins and ends with it, whether or not logits are made after it.
        engine = deepspeed.initialize(model=model.requires_grad_(False).get_decoder(), config=plan)[0]
    # The hooks reach into the engine; in a list it does not become a sub-module of the model.
    model.__dict__[_ENGINE] = [engine]
    return model.eval()


def with_head_in_reach(model: "PreTrainedModel") -> "PreTrainedModel":
    """The model with its output head on the device that computes it, where a device map left it elsewhere."""
    head = _linear_head(model)
    if not any(parameter.is_meta for parameter in head.parameters()):
        return model
    with _on_its_device(head):
        device = head.weight.device
        whole = _copied(head, device=device)
    hooks = importlib.import_module("accelerate.hooks")
    hooks.add_hook_to_module(whole, hooks.AlignDevicesHook(execution_device=device))
    model.set_output_embeddings(whole)
    log.info("the output head was offloaded by the device map; a copy of it stays on %s", device)
    return model


def input_device(model: LanguageModel) -> torch.device:
    """Where token ids have to be for the model's first product, wherever its weights wait."""
    inner = without_adapters(model)
    engine = inner.__dict__.get(_ENGINE)
    if engine is not None:
        return torch.device(engine[0].device)
    embeddings = inner.get_input_embeddings()
    device = next(embeddings.parameters()).device
    return torch.device(embeddings._hf_hook.execution_device) if device.type == "meta" else device


def _on_its_device(head: nn.Linear) -> AbstractContextManager[None]:
    """Accelerate's own way to bring offloaded weights to where they are multiplied."""
    context: AbstractContextManager[None] = importlib.import_module("accelerate.utils").align_module_device(head)
    return context


def _linear_head(model: "PreTrainedModel") -> nn.Linear:
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the output head of {model.config.model_type} is a {type(head).__name__}",
            why="a plain linear map is needed where a model is spread over devices",
            fix="placement=one-device",
        )
    return head


def _copied(head: nn.Linear, *, device: torch.device | str) -> nn.Linear:
    """A plain linear module with the same numbers, and nobody's hooks."""
    has_bias = head.bias is not None
    copied = nn.Linear(head.in_features, head.out_features, bias=has_bias, device="meta")
    copied.weight = nn.Parameter(head.weight.detach().to(device, copy=True), requires_grad=False)
    if has_bias:
        copied.bias = nn.Parameter(head.bias.detach().to(device, copy=True), requires_grad=False)
    return copied.eval()
