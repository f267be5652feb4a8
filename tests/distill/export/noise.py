"""Models with noise on their weights."""

import copy

import torch


def disturbed(loaded, *, std):
    """A copy of the model with noise on its weights."""
    copied = copy.deepcopy(loaded)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in copied.model.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return copied
