"""Final hidden states of packed rows: many completions behind one prompt, for every decoder that takes a 4-D mask."""

import logging
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data.prompt_packs import PackedBatch, PromptGroup, pack_groups
from distill.models.adapters import LanguageModel, without_adapters
from distill.models.distributed import input_device
from distill.models.head import PROBE_TOLERANCE, backbone

log = logging.getLogger(__name__)

MaskForm = Literal["one", "by_layer_type"]
"""How a decoder takes prepared masks: one for all its layers, or one for each of its layer types."""

_REFUSALS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)
_SHORT = 6


@torch.inference_mode()
def packed_hidden_states(
    model: LanguageModel, batch: PackedBatch, *, form: MaskForm | None
) -> Float[Tensor, "tokens hidden"]:
    """The final-norm states that predict the completion tokens of `batch`, in its order, on the model's device.

    Args:
        model: any causal language model, in evaluation mode.
        batch: rows of groups; with `form` None each row must hold one prompt with one completion.
        form: from `mask_form`.
    """
    assert form is not None or not batch.is_branched, "a model without a mask form reads one sequence a row"
    decoder = backbone(model)
    device = input_device(model)
    mask: Any = torch.ones(batch.input_ids.shape, dtype=torch.int64, device=device)
    is_branched = batch.is_branched
    batch = batch.to(device)
    if is_branched:
        assert form is not None
        mask = _masks(model, batch, form=form)
    # Without branches a plain causal mask is enough: padding stands on the right, where no token sees it.
    outputs = decoder(
        input_ids=batch.input_ids, attention_mask=mask, position_ids=_positions(batch, is_branched), use_cache=False
    )
    states = cast(Tensor, outputs.last_hidden_state)
    return states.flatten(0, 1)[batch.source_index.to(states.device)]


@torch.inference_mode()
def mask_form(model: LanguageModel, *, longest: int) -> MaskForm | None:
    """How `model` takes packed rows, found by comparing them with plain ones on a few tokens; None: it does not.

    Args:
        model: in evaluation mode.
        longest: tokens of the longest sequence to come; where it exceeds a sliding window, so does the probe.
    """
    config = without_adapters(model).config.get_text_config(decoder=True)
    window = _window(model)
    length = _SHORT if window is None else min(max(longest, _SHORT), window + _SHORT)
    groups = _probe(length, vocab_size=int(config.vocab_size))
    alone = [PromptGroup(group.prompt_ids, (completion,)) for group in groups for completion in group.completions]
    expected = packed_hidden_states(model, pack_groups(alone, pad_id=0), form=None)
    packed = pack_groups(groups, pad_id=0, pack_tokens=sum(group.num_positions for group in groups))
    problem = ""
    for form in cast(tuple[MaskForm, ...], ("by_layer_type", "one")):
        if form == "by_layer_type" and not _layer_types(model):
            continue
        try:
            found = packed_hidden_states(model, packed, form=form)
        except torch.OutOfMemoryError:
            raise
        except _REFUSALS as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        tolerance = PROBE_TOLERANCE if expected.dtype == torch.float32 else 0.05
        difference = (found - expected).abs().max().item()
        if difference <= tolerance * max(1.0, expected.abs().max().item()):
            return form
        problem = f"its hidden states differ by {difference:.3g}"
    log.info("%s reads each prompt once per completion: it takes no packed rows (%s)", config.model_type, problem)
    return None


def _masks(model: LanguageModel, batch: PackedBatch, *, form: MaskForm) -> Tensor | dict[str, Tensor]:
    window = _window(model)
    if form == "one":
        return _as_taken(model, batch.attention_mask(window=window))
    full = _as_taken(model, batch.attention_mask())
    sliding = full if window is None else _as_taken(model, batch.attention_mask(window=window))
    return {kind: sliding if kind == "sliding_attention" else full for kind in _layer_types(model)}


def _as_taken(model: LanguageModel, mask: Tensor) -> Tensor:
    """Boolean for PyTorch's fused attention; numbers to add for attention written out in Python."""
    inner = without_adapters(model)
    if inner.config._attn_implementation == "sdpa":
        return mask
    floor = torch.finfo(inner.dtype).min
    return torch.zeros(mask.shape, dtype=inner.dtype, device=mask.device).masked_fill_(~mask, floor)


def _positions(batch: PackedBatch, is_branched: bool) -> Tensor:
    """Padding of plain rows goes on counting, so that no family takes a fall in positions for packed sequences."""
    if is_branched:
        return batch.position_ids
    rows, width = batch.input_ids.shape
    return torch.arange(width, device=batch.input_ids.device).expand(rows, width)


def _layer_types(model: LanguageModel) -> tuple[str, ...]:
    config = without_adapters(model).config.get_text_config(decoder=True)
    return tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))


def _window(model: LanguageModel) -> int | None:
    """The sliding window of the layers that have one."""
    config = without_adapters(model).config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    kinds = _layer_types(model)
    if window is None or (kinds and "sliding_attention" not in kinds):
        return None
    return int(window)


def _probe(length: int, *, vocab_size: int) -> list[PromptGroup]:
    """Two groups that branch, whose longest sequence has `length` tokens."""

    def ids(start: int, count: int) -> tuple[int, ...]:
        return tuple((start + 7 * step) % vocab_size for step in range(count))

    prompt = ids(1, max(1, length // 2))
    return [
        PromptGroup(prompt, (ids(3, length - len(prompt)), ids(11, 3), ids(4, 2))),
        PromptGroup(ids(9, 2), (ids(2, 3), ids(5, 1))),
    ]
