"""EBRM's network: how well a candidate reward fits an answer's state."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distill.settings import Settings


class EnergyHeadSettings(Settings):
    """The sizes of the network."""

    reward_widths: tuple[int, ...] = Field(
        (16, 32, 64), min_length=1, description="units of the branch that reads the candidate reward"
    )
    joint_widths: tuple[int, ...] = Field(
        (1024, 512), min_length=1, description="units above state and branch; one number comes out"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="share of units dropped after each layer but the branch's last")


class EnergyHead(nn.Module):
    """f(e, r): a higher value says that reward r fits state e better.

    The reward goes through the branch (tanh; dropout but after its last layer), is joined to the state, and both go
    through the joint layers (tanh, dropout) to one number. The states' part of the first joint layer is computed once
    for all candidates of an answer.

    Args:
        hidden_size: of the states.
        settings: sizes.

    Source:
        Lochab & Zhang 2025, arXiv:2504.13134, released network. Differs: states are standardised by the `centre` and
        `deviation` of those that the head is fitted on; the released code reads them raw.
    """

    centre: Tensor
    deviation: Tensor

    def __init__(self, hidden_size: int, settings: EnergyHeadSettings) -> None:
        super().__init__()
        self.settings, self.hidden_size = settings, hidden_size
        branch = (1, *settings.reward_widths)
        self.branch = nn.ModuleList(nn.Linear(low, high) for low, high in pairwise(branch))
        joint = (hidden_size + branch[-1], *settings.joint_widths)
        self.joint = nn.ModuleList(nn.Linear(low, high) for low, high in pairwise(joint))
        self.out = nn.Linear(joint[-1], 1)
        self.register_buffer("centre", torch.zeros(hidden_size))
        self.register_buffer("deviation", torch.ones(hidden_size))

    def standardise(self, states: Float[Tensor, "answers hidden"]) -> None:
        """Takes centre and deviation from these states; one that never varies is left at its own scale."""
        deviation = states.std(dim=0, correction=0)
        self.centre.copy_(states.mean(dim=0))
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(
        self, states: Float[Tensor, "batch hidden"], rewards: Float[Tensor, "batch sample"]
    ) -> Float[Tensor, "batch sample"]:
        """Energies of candidate rewards, a row of candidates for each state."""
        features = rewards.unsqueeze(-1)
        for number, layer in enumerate(self.branch):
            features = torch.tanh(layer(features))
            if number + 1 < len(self.branch):
                features = self._dropped(features)
        first = cast(nn.Linear, self.joint[0])
        of_states, of_rewards = first.weight[:, : self.hidden_size], first.weight[:, self.hidden_size :]
        scaled = (states - self.centre) / self.deviation
        shared = functional.linear(scaled, of_states, first.bias).unsqueeze(1)
        features = self._dropped(torch.tanh(shared + functional.linear(features, of_rewards)))
        for layer in list(self.joint)[1:]:
            features = self._dropped(torch.tanh(layer(features)))
        energies: Tensor = self.out(features)
        return energies.squeeze(-1)

    def _dropped(self, features: Tensor) -> Tensor:
        return functional.dropout(features, self.settings.dropout, self.training)
