"""TRL's own losses, called on given log-probs or logits, against ours."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from distill.numerics import log_softmax
from distill.objectives import LogitRows, TokenLoss, dadpo_loss, dpo_loss, token_loss_values, uld

pytestmark = pytest.mark.slow


class OneProcess:
    """Where TRL's loss runs: the CPU, with nobody to gather from."""

    device = torch.device("cpu")

    def gather(self, values: Tensor) -> Tensor:
        return values

    def gather_for_metrics(self, values: Tensor) -> Tensor:
        return values


def trl_sigmoid_loss(
    terms: list[Tensor], *, beta: float, divergence: str = "reverse_kl", coefficient: float = 0.5
) -> Tensor:
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
        f_divergence_type=divergence,
        f_alpha_divergence_coef=coefficient,
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


@pytest.mark.parametrize(
    ("divergence", "alpha", "theirs", "coefficient"),
    [
        ("forward_kl", 0.5, "forward_kl", 0.5),
        ("jensen_shannon", 0.5, "js_divergence", 0.5),
        ("alpha", 0.5, "alpha_divergence", 0.5),
        ("alpha", 0.2, "alpha_divergence", 0.8),
    ],
)
def test_f_dpo_equals_trls(divergence, alpha, theirs, coefficient):
    """TRL writes f'(u) = (u^(c-1) - 1) / (c - 1): its coefficient c is 1 - alpha of the paper."""
    terms = list(torch.randn(4, 20, generator=torch.manual_seed(12)) * 3 - 20)
    policy = [term.requires_grad_() for term in terms[:2]]
    expected = trl_sigmoid_loss(terms, beta=0.1, divergence=theirs, coefficient=coefficient)
    ours = dpo_loss(*terms, beta=0.1, divergence=divergence, alpha=alpha)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(loss.sum(), policy) for loss in (ours, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.9, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_jensen_shannon_equals_trls_generalised_jsd(beta, temperature):
    """TRL does not multiply by T^2."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    teacher, student = torch.randn(2, 3, 7, 11, generator=torch.manual_seed(13))
    student.requires_grad_()
    expected = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, temperature=temperature, reduction="none")
    expected = expected.sum(-1).flatten() * temperature**2
    loss = TokenLoss("jensen_shannon", {"beta": beta}, temperature=temperature)
    ours = token_loss_values(loss, log_softmax(student).flatten(0, 1), LogitRows(teacher.flatten(0, 1)))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    gradients = [torch.autograd.grad(values.sum(), student, retain_graph=True)[0] for values in (ours, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_uld_equals_trls_sorted_distance():
    """One answer, the same positions: TRL's loss is the mean over tokens."""
    from trl.experimental.gold.gold_trainer import ULDLoss

    config = SimpleNamespace(
        uld_crossentropy_weight=0.0,
        uld_distillation_weight=1.0,
        uld_student_temperature=1.0,
        uld_teacher_temperature=1.0,
        uld_skip_student_eos=False,
        uld_skip_teacher_eos=False,
        use_extended_uld=False,
        uld_token_merge_strategy="observed",
    )
    generator = torch.manual_seed(14)
    teacher, student = torch.randn(1, 6, 13, generator=generator), torch.randn(1, 6, 9, generator=generator)
    ids = torch.ones(1, 6, dtype=torch.int64)
    expected = ULDLoss(config)(student, teacher, ids, ids, ids, ids)
    ours = uld(log_softmax(teacher[0]), log_softmax(student[0]))
    torch.testing.assert_close(ours.mean(), expected)
