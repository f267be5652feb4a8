"""TRL's own DPO loss, called on given log-probs, against ours."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from distill.objectives import dadpo_loss, dpo_loss

pytestmark = pytest.mark.slow


class OneProcess:
    """Where TRL's loss runs: the CPU, with nobody to gather from."""

    device = torch.device("cpu")

    def gather(self, values: Tensor) -> Tensor:
        return values

    def gather_for_metrics(self, values: Tensor) -> Tensor:
        return values


def trl_sigmoid_loss(terms: list[Tensor], *, beta: float) -> Tensor:
    """`DPOTrainer._compute_loss` with loss type sigmoid, one call a pair, as TRL only returns means.

    The trainer is what that method reads of one: a beta, precomputed reference log-probs, and a model whose output
    is the policy's log-prob of each answer as the log-prob of its only token.
    """
    from trl.trainer.dpo_trainer import DPOTrainer

    trainer = SimpleNamespace(
        model=torch.nn.Identity(),
        accelerator=OneProcess(),
        beta=beta,
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        precompute_ref_logps=True,
        ld_alpha=None,
        use_weighting=False,
        aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    ones = torch.ones(2, 2, dtype=torch.int64)
    losses = []
    for chosen, rejected, reference_chosen, reference_rejected in zip(*terms, strict=True):
        log_probs = torch.stack([chosen, rejected])[:, None]
        nothing = torch.zeros_like(log_probs)
        output = SimpleNamespace(
            log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool(), logits=None
        )
        inputs = {
            "input_ids": ones,
            "attention_mask": ones,
            "completion_mask": ones,
            "ref_chosen_logps": reference_chosen[None],
            "ref_rejected_logps": reference_rejected[None],
        }
        losses.append(DPOTrainer._compute_loss(trainer, lambda _output=output, **_: _output, inputs, False))
    return torch.stack(losses)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5])
def test_dpo_and_dadpo_without_teacher_equal_trls_sigmoid_loss(beta, dtype):
    terms = [term.to(dtype) for term in torch.randn(6, 20, generator=torch.manual_seed(11)) * 30 - 100]
    policy = [term.requires_grad_() for term in terms[:2]]
    expected = trl_sigmoid_loss(terms[:4], beta=beta)
    expected_gradients = torch.autograd.grad(expected.sum(), policy)
    for ours in (dpo_loss(*terms[:4], beta=beta), dadpo_loss(*terms, beta_reference=beta, beta_teacher=0.0)):
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(torch.autograd.grad(ours.sum(), policy), expected_gradients)
