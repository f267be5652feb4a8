"""Weights that a module has for the length of its own forward only, so that one at a time is in memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

WeightOf = Callable[[str, Tensor], Tensor]


@contextmanager
def lending_weights(model: nn.Module, weight_of: WeightOf) -> Iterator[None]:
    """Inside, each module with plain floating parameters computes with `weight_of(name, parameter)` in their place.

    Parameters may have no memory at all (device `meta`). Packed weights of quantizers stay as they are.

    Args:
        model: in evaluation mode; as it was afterwards.
        weight_of: a tensor of the parameter's shape.
    """
    with ExitStack() as stack:
        for path, module in model.named_modules():
            names = [name for name, parameter in module.named_parameters(recurse=False) if is_plain(parameter)]
            if not names or isinstance(module, nn.ParameterDict | nn.ParameterList):
                continue
            lending = _Lending(path, names, weight_of)
            stack.enter_context(module.register_forward_pre_hook(lending.lend))
            stack.enter_context(module.register_forward_hook(lending.take_back, always_call=True))
        yield


class _Lending:
    """One module's own parameters, put aside while it computes."""

    def __init__(self, path: str, names: list[str], weight_of: WeightOf) -> None:
        self._path, self._names, self._weight_of = path, names, weight_of
        self._aside: dict[str, nn.Parameter] = {}

    def lend(self, module: nn.Module, arguments: Any) -> None:
        for name in self._names:
            own = module.get_parameter(name)
            self._aside[name] = own
            lent = self._weight_of(f"{self._path}.{name}" if self._path else name, own)
            setattr(module, name, nn.Parameter(lent, requires_grad=False))

    def take_back(self, module: nn.Module, arguments: Any, output: Any) -> None:
        for name, own in self._aside.items():
            setattr(module, name, own)
        self._aside.clear()


def without_memory(model: nn.Module) -> None:
    """Frees every plain floating parameter of `model`; its shape and dtype stay."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if is_plain(parameter):
                setattr(module, name, nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False))


def is_plain(parameter: Tensor) -> bool:
    """Whether it holds numbers as they are, not packed by a quantizer."""
    return type(parameter) is nn.Parameter and parameter.is_floating_point()
