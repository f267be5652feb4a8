"""Final hidden states of packed rows: many completions behind one prompt, for every decoder that takes a 4-D mask."""

import logging
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data.prompt_packs import PackedBatch, PromptGroup, pack_groups, runs_of
from distill.models.adapters import LanguageModel, without_adapters
from distill.models.distributed import input_device
from distill.models.head import PROBE_TOLERANCE, backbone
from distill.models.packed_attention import (
    NAME,
    Attention,
    as_mask,
    attend_by_runs,
    packed_attention,
    restored_attention,
)
from distill.models.packed_flex import NAME as FLEX_NAME
from distill.models.packed_flex import agrees_with_runs, flex_attention_by_runs

log = logging.getLogger(__name__)

MaskForm = Literal["one", "by_layer_type"]
"""How a decoder takes prepared masks: one for all its layers, or one for each of its layer types."""
PackForm = Literal["by_runs"] | MaskForm
"""How a student takes packed rows: run by run in one row without padding (`packed_attention`), or by masks."""

_REFUSALS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError)
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
    is_branched = batch.is_branched
    assert form is not None or not is_branched, "a model without a mask form reads one sequence a row"
    return packed_states(model, batch.to(input_device(model)), form=form if is_branched else None)


def packed_states(
    model: LanguageModel, batch: PackedBatch, *, form: PackForm | None, runs: Int[Tensor, "runs 2"] | None = None
) -> Float[Tensor, "tokens hidden"]:
    """The same with gradients, of a batch that is where the model computes.

    Args:
        model: any causal language model.
        batch: rows of groups.
        form: None where no row holds more than one prompt with one completion.
        runs: of the batch's one row, on the CPU, for the form `by_runs`.
    """
    mask: Any
    if form is None:
        # A plain causal mask is enough: padding stands on the right, where no token sees it.
        mask = torch.ones_like(batch.input_ids)
    elif form == "by_runs":
        assert runs is not None, "a row that is read run by run comes with its runs"
        mask = as_mask(runs)
    else:
        mask = _masks(model, batch, form=form)
    positions = _positions(batch, form is not None)
    outputs = backbone(model)(input_ids=batch.input_ids, attention_mask=mask, position_ids=positions, use_cache=False)
    states = cast(Tensor, outputs.last_hidden_state)
    return states.flatten(0, 1)[batch.source_index.to(states.device)]


@torch.no_grad()
def mask_form(model: LanguageModel, *, longest: int) -> MaskForm | None:
    """How `model` takes packed rows, found by comparing them with plain ones on a few tokens; None: it does not.

    Args:
        model: in evaluation mode.
        longest: tokens of the longest sequence to come; where it exceeds a sliding window, so does the probe.
    """
    forms: tuple[MaskForm, ...] = ("by_layer_type", "one") if _layer_types(model) else ("one",)
    probe = _Probe.of(model, longest=longest)
    for form in forms:
        if probe.is_passed(model, form):
            return form
    kind = without_adapters(model).config.model_type
    log.info("%s reads each prompt once per completion: it takes no packed rows (%s)", kind, probe.problem)
    return None


@torch.no_grad()
def pack_form(model: LanguageModel, *, longest: int) -> PackForm | None:
    """How `model` takes packed rows best, run by run where it can; it attends by runs from then on if so.

    Args:
        model: in evaluation mode.
        longest: tokens of the longest sequence to come; where it exceeds a sliding window, so does the probe.
    """
    probe = _Probe.of(model, longest=longest)
    for name, attend in _ways(model):
        with restored_attention(model) as keep:
            try:
                attend_by_runs(model, name=name, attend=attend)
            except _REFUSALS as error:
                log.info("packed rows do not go through %s: %s", name, error)
            else:
                if probe.is_passed(model, "by_runs"):
                    keep()
                    return "by_runs"
                log.info("packed rows do not go through %s: %s", name, probe.problem)
    log.info("packed rows are padded")
    return mask_form(model, longest=longest)


def _ways(model: LanguageModel) -> list[tuple[str, Attention]]:
    """How a row may be read run by run, best first: on a GPU in one kernel, if that proves itself there."""
    ways: list[tuple[str, Attention]] = [(NAME, packed_attention)]
    device, config = input_device(model), without_adapters(model).config.get_text_config(decoder=True)
    if device.type != "cuda":
        return ways
    num_heads = int(config.num_attention_heads)
    head_size = int(getattr(config, "head_dim", None) or config.hidden_size // num_heads)
    num_key_heads = int(getattr(config, "num_key_value_heads", None) or num_heads)
    dtype = without_adapters(model).dtype
    try:
        is_sound = agrees_with_runs(
            num_heads=num_heads, num_key_heads=num_key_heads, head_size=head_size, dtype=dtype, device=device
        )
    except _REFUSALS as error:
        log.info("FlexAttention does not run here (%s): packed rows are read run by run", error)
        return ways
    return [(FLEX_NAME, flex_attention_by_runs), *ways] if is_sound else ways


class _Probe:
    """A few packed tokens, and what the model says about them read plainly, one completion a row."""

    def __init__(self, packed: PackedBatch, expected: Tensor) -> None:
        self.packed, self.expected, self.problem = packed, expected, ""

    @staticmethod
    def of(model: LanguageModel, *, longest: int) -> "_Probe":
        """Two groups that branch; one exceeds the model's sliding window if sequences to come do."""
        config = without_adapters(model).config.get_text_config(decoder=True)
        window = _window(model)
        length = _SHORT if window is None else min(max(longest, _SHORT), window + _SHORT)
        groups = _probe(length, vocab_size=int(config.vocab_size))
        alone = [PromptGroup(group.prompt_ids, (completion,)) for group in groups for completion in group.completions]
        plain = pack_groups(alone, pad_id=0).to(input_device(model))
        packed = pack_groups(groups, pad_id=0, pack_tokens=sum(group.num_positions for group in groups))
        return _Probe(packed, packed_states(model, plain, form=None))

    def is_passed(self, model: LanguageModel, form: PackForm) -> bool:
        """Whether packed rows of this form say the same; `problem` tells why not."""
        runs = runs_of(self.packed) if form == "by_runs" else None
        try:
            found = packed_states(model, self.packed.to(input_device(model)), form=form, runs=runs)
        except torch.OutOfMemoryError:
            raise
        except _REFUSALS as error:
            self.problem = f"{type(error).__name__}: {error}"
            return False
        tolerance = PROBE_TOLERANCE if self.expected.dtype == torch.float32 else 0.05
        difference = (found - self.expected).abs().max().item()
        self.problem = f"its hidden states differ by {difference:.3g}"
        return bool(difference <= tolerance * max(1.0, self.expected.abs().max().item()))


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
