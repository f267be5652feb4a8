"""Structured pruning: a smaller student cut out of the teacher, by whole MLP channels and attention head groups."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from distill.errors import ModelError
from distill.models.adapters import LanguageModel
from distill.models.head import backbone
from distill.models.quantized import is_quantized
from distill.numerics import widened
from distill.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


class PruneSettings(Settings):
    """How much of the teacher to cut away."""

    ratio: float = Field(gt=0, lt=1, description="share of the decoder layers' attention and MLP parameters to remove")


@dataclass(frozen=True)
class _Sizes:
    """What each layer has; a head group is one key-value head with the query heads that read it."""

    num_groups: int
    heads_per_group: int
    head_dim: int
    channels: int
    hidden_size: int

    @classmethod
    def of(cls, config: "PreTrainedConfig") -> "_Sizes":
        groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = config.num_attention_heads // groups
        return cls(groups, heads, head_dim, config.intermediate_size, config.hidden_size)


@dataclass(frozen=True)
class _Layer:
    """The linear modules of one decoder layer that lose rows (in) or columns (out)."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    o: nn.Linear
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for module in vars(self).values() for p in module.parameters())


def prune(
    model: "PreTrainedModel", settings: PruneSettings, *, calibration: Iterable[Sequence[int]]
) -> "PreTrainedModel":
    r"""A copy of `model` without the head groups and MLP channels that matter least.

    What a group j matters is the first-order estimate of how the language-model loss L changes when its output is
    zeroed, the sum over calibration texts of

    .. math:: \Bigl| \sum_{w \in W_j} w \, \frac{\partial L}{\partial w} \Bigr|

    with :math:`W_j` the columns of the projection (`o_proj`, `down_proj`) that read the group. Every layer loses
    equally many, so the result is an ordinary model of its family; which ones is each layer's own matter. Head groups
    go by `settings.ratio`, rounded to what the family's configuration allows; channels make up the rest.

    Args:
        model: not changed.
        settings: how much to remove.
        calibration: token ids of one text each.

    Raises:
        ModelError: the model has adapters, is quantized, or is of a family whose layers are not known; there is no
            calibration text; or the ratio leaves a layer without channels.

    Source:
        Molchanov et al. 2019, arXiv:1906.10771, eq. 8; grouping as in Ma et al. 2023 (LLM-Pruner), arXiv:2305.11627.
        Differs: heads and channels are ranked within their layer, not across layers.
    """
    layers = _layers(model)
    sizes = _Sizes.of(model.config)
    groups, channels = _kept_sizes(sizes, layers[0].num_parameters, ratio=settings.ratio)
    group_scores, channel_scores = _importance(model, layers, sizes, calibration)
    pruned = _smaller_model(model, groups=groups, channels=channels, sizes=sizes)
    weights = model.state_dict()
    names = {id(module): name for name, module in model.named_modules()}
    for layer, by_group, by_channel in zip(layers, group_scores, channel_scores, strict=True):
        _cut(weights, names, layer, _largest(by_group, groups), _largest(by_channel, channels), sizes)
    pruned.load_state_dict(weights)
    return pruned


def _layers(model: LanguageModel) -> list[_Layer]:
    from peft import PeftModel

    if isinstance(model, PeftModel) or is_quantized(model):
        raise ModelError(
            "a model with adapters or quantized weights cannot be pruned",
            why="rows and columns are cut out of plain weight matrices",
            fix="merge or load it unquantized first (distill export MODEL --formats safetensors)",
        )
    found: list[_Layer] = []
    for layer in cast(Iterable[Any], getattr(backbone(model), "layers", [])):
        attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
        modules = [getattr(attention, f"{name}_proj", None) for name in "qkvo"]
        modules += [getattr(mlp, f"{name}_proj", None) for name in ("gate", "up", "down")]
        if not all(isinstance(module, nn.Linear) for module in modules):
            found.clear()
            break
        found.append(_Layer(*cast(list[nn.Linear], modules)))
    if not found:
        raise ModelError(
            f"models of type {model.config.model_type} cannot be pruned",
            why="layers with q, k, v, o and gate, up, down projections are expected",
            fix="use a Llama-, Qwen-, Mistral- or Gemma-shaped teacher",
        )
    return found


def _kept_sizes(sizes: _Sizes, layer_parameters: int, *, ratio: float) -> tuple[int, int]:
    """How many head groups and channels each layer keeps."""
    heads = sizes.heads_per_group
    wanted = max(1, sizes.num_groups - int(ratio * sizes.num_groups))
    groups = next(n for n in range(wanted, sizes.num_groups + 1) if _divides(n * heads, sizes))
    per_group = 2 * (heads + 1) * sizes.head_dim * sizes.hidden_size
    removed_in_attention = (sizes.num_groups - groups) * per_group
    channels = sizes.channels - round((ratio * layer_parameters - removed_in_attention) / (3 * sizes.hidden_size))
    if channels < 1:
        raise ModelError(
            f"student.prune.ratio is {ratio}",
            why="it leaves no MLP channel, because whole attention heads are few and large",
            fix="lower student.prune.ratio",
        )
    return groups, min(channels, sizes.channels)


def _divides(num_heads: int, sizes: _Sizes) -> bool:
    """Whether configurations accept this many heads; all are kept in any case."""
    return sizes.hidden_size % num_heads == 0 or num_heads == sizes.num_groups * sizes.heads_per_group


@torch.enable_grad()
def _importance(
    model: "PreTrainedModel", layers: list[_Layer], sizes: _Sizes, calibration: Iterable[Sequence[int]]
) -> tuple[Float[Tensor, "layer groups"], Float[Tensor, "layer channels"]]:
    weights = [weight for layer in layers for weight in (layer.o.weight, layer.down.weight)]
    needed_gradient = [weight.requires_grad for weight in weights]
    group_scores = torch.zeros(len(layers), sizes.num_groups)
    channel_scores = torch.zeros(len(layers), sizes.channels)
    num_texts = 0
    was_training = model.training
    model.eval()
    for weight in weights:
        weight.requires_grad_(True)
    for text in calibration:
        ids = torch.tensor([list(text)], device=model.device)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        gradients = torch.autograd.grad(loss, weights)
        changes = [widened(w.detach() * g).sum(0).cpu() for w, g in zip(weights, gradients, strict=True)]
        group_scores += torch.stack(changes[0::2]).reshape(len(layers), sizes.num_groups, -1).sum(-1).abs()
        channel_scores += torch.stack(changes[1::2]).abs()
        num_texts += 1
    for weight, needed in zip(weights, needed_gradient, strict=True):
        weight.requires_grad_(needed)
    model.train(was_training)
    if not num_texts:
        raise ModelError("there is no calibration text", why="nothing says which parts of the model matter")
    return group_scores, channel_scores


def _smaller_model(model: "PreTrainedModel", *, groups: int, channels: int, sizes: _Sizes) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    values = model.config.to_dict()
    values |= {
        "num_key_value_heads": groups,
        "num_attention_heads": groups * sizes.heads_per_group,
        "head_dim": sizes.head_dim,
        "intermediate_size": channels,
    }
    config = type(model.config).from_dict(values)
    with torch.random.fork_rng(devices=[]):
        pruned: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    pruned.generation_config = model.generation_config
    return cast("PreTrainedModel", pruned.to(model.device).eval())


def _largest(scores: Float[Tensor, " parts"], count: int) -> Int[Tensor, " kept"]:
    """Indices of the `count` largest scores, in rising order; among equals the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _cut(
    weights: dict[str, Tensor],
    names: dict[int, str],
    layer: _Layer,
    groups: Int[Tensor, " groups"],
    channels: Int[Tensor, " channels"],
    sizes: _Sizes,
) -> None:
    """Keeps, in `weights`, what one layer's kept groups and channels write and read."""
    query = _positions(groups, sizes.heads_per_group * sizes.head_dim)
    key_value = _positions(groups, sizes.head_dim)
    rows = [(layer.q, query), (layer.k, key_value), (layer.v, key_value), (layer.gate, channels), (layer.up, channels)]
    for module, kept in rows:
        for name in ("weight", "bias"):
            if getattr(module, name) is not None:
                key = f"{names[id(module)]}.{name}"
                weights[key] = weights[key][kept.to(weights[key].device)]
    for module, kept in ((layer.o, query), (layer.down, channels)):
        key = f"{names[id(module)]}.weight"
        weights[key] = weights[key][:, kept.to(weights[key].device)]


def _positions(groups: Int[Tensor, " kept"], width: int) -> Int[Tensor, " positions"]:
    """The rows of groups that are `width` rows wide each."""
    return (groups.unsqueeze(-1) * width + torch.arange(width)).flatten()
