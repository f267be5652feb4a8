import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import (
    DadpoSettings,
    DistillM2Settings,
    DpoSettings,
    GkdSettings,
    HiddenStateRows,
    KdSettings,
    LogitRows,
    OutputHead,
    SampledRows,
    TokenDivergenceSettings,
    TokenLoss,
    TopKRows,
    divergence,
    part_of_rows,
    sampled_divergence,
    selected_rows,
    token_divergences,
    token_loss_values,
    token_losses,
    top_k_divergence,
    top_k_uld,
    uld,
)
from tests.strategies import logits

CHOSEN = torch.tensor([True, False, True, False, False])
ALL = torch.ones(5, dtype=torch.bool)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.manual_seed(seed))


def lists(log_probs: torch.Tensor, k: int = 3) -> TopKRows:
    values, ids = log_probs.topk(k, dim=-1)
    return TopKRows(ids, values, log_probs.exp().scatter(-1, ids, 0.0).sum(-1))


def counts() -> SampledRows:
    return SampledRows(torch.tensor([[0, 3]] * 5), torch.tensor([[1, 3], [4, 0], [2, 2], [1, 3], [3, 1]]))


def test_every_objective_names_its_terms():
    assert token_losses(DpoSettings()) == token_losses(DadpoSettings()) == ()
    assert token_losses(KdSettings(divergence="skew_kl", alpha=0.3, on="chosen", temperature=2.0, tier="exact")) == (
        TokenLoss("skew_kl", {"alpha": 0.3}, "chosen", 1.0, 2.0, "exact"),
    )
    term = TokenDivergenceSettings(name="forward_kl", weight=0.4, tier="sampled")
    assert token_losses(DadpoSettings(token_divergence=term)) == (
        TokenLoss("forward_kl", {}, "both", 0.4, 1.0, "sampled"),
    )
    assert token_losses(GkdSettings(beta=0.2)) == (TokenLoss("jensen_shannon", {"beta": 0.2}, "chosen"),)
    assert token_losses(DistillM2Settings(rejected_weight=0.5)) == (
        TokenLoss("skew_kl", {"alpha": 0.1}, "chosen", 1.5),
        TokenLoss("skew_reverse_kl", {"alpha": 0.1}, "rejected", 0.5),
    )


def test_the_recipes_tier_leaves_no_other():
    assert TokenLoss("forward_kl", tier="sampled").tiers == ("sampled",)
    assert TokenLoss("reverse_kl").tiers == ("exact", "logits-bf16", "exact-int8", "top-k")


def test_each_kind_of_row_gets_its_own_estimate():
    teacher, student = drawn(5, 6), log_softmax(drawn(5, 6, seed=2))
    whole = log_softmax(teacher)
    kd = KdSettings()
    head = OutputHead(drawn(6, 3, seed=3))
    states = drawn(5, 3, seed=4)
    expected = [
        (LogitRows(teacher), divergence("forward_kl", whole, student)),
        (HiddenStateRows(states), divergence("forward_kl", log_softmax(states @ head.weight.T), student)),
        (lists(whole), top_k_divergence("forward_kl", student, lists(whole))),
        (counts(), sampled_divergence("forward_kl", student, counts())),
    ]
    for rows, values in expected:
        torch.testing.assert_close(token_divergences(kd, student, rows, is_chosen=CHOSEN, head=head), values)


@given(teacher=logits(3), student=logits(3), temperature=st.floats(0.3, 4.0))
def test_a_temperature_softens_both_and_counts_by_its_square(teacher, student, temperature):
    """T^2 D(softmax(z_T / T), softmax(z_S / T)), from logits of the teacher and log-probs of the student."""
    values = token_loss_values(
        TokenLoss("reverse_kl", temperature=temperature), log_softmax(student), LogitRows(teacher)
    )
    soft = log_softmax(teacher / temperature), log_softmax(student / temperature)
    torch.testing.assert_close(values, temperature**2 * divergence("reverse_kl", *soft))


def test_chunks_of_any_size_give_the_same_values():
    student = log_softmax(drawn(5, 6, seed=2))
    for settings in (KdSettings(on="rejected"), DistillM2Settings(), KdSettings(divergence="uld")):
        for rows in (LogitRows(drawn(5, 6)), lists(log_softmax(drawn(5, 6)))):
            whole = token_divergences(settings, student, rows, is_chosen=CHOSEN)
            parts = [
                token_divergences(settings, student[a:b], part_of_rows(rows, a, b), is_chosen=CHOSEN[a:b])
                for a, b in ((0, 1), (1, 4), (4, 5), (5, 5))
            ]
            torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("settings", [KdSettings(on="chosen"), GkdSettings()])
def test_what_stands_at_tokens_that_do_not_count_changes_nothing(settings, rubbish):
    teacher, clean, results = drawn(5, 6), log_softmax(drawn(5, 6, seed=2)), []
    for filling in (0.0, rubbish):
        student = torch.where(CHOSEN[:, None], clean, filling).requires_grad_()
        rows = LogitRows(torch.where(CHOSEN[:, None], teacher, filling))
        values = token_divergences(settings, student, rows, is_chosen=CHOSEN)
        values.sum().backward()
        results.append((values.detach(), student.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert (results[1][1][~CHOSEN] == 0).all()


def test_tokens_that_the_teacher_says_nothing_of_count_as_little():
    told = torch.tensor([True, True, False, True, False])
    teacher, student = drawn(5, 6), log_softmax(drawn(5, 6, seed=2))
    values = token_divergences(KdSettings(divergence="uld"), student, LogitRows(teacher, told), is_chosen=CHOSEN)
    torch.testing.assert_close(values, torch.where(told, uld(log_softmax(teacher), student), 0.0))


def test_heads_padded_to_different_widths_are_compared_on_the_tokens_of_both():
    teacher, student = drawn(5, 8), log_softmax(drawn(5, 6, seed=2))
    values = token_divergences(KdSettings(), student, LogitRows(teacher), is_chosen=CHOSEN)
    torch.testing.assert_close(values, divergence("forward_kl", log_softmax(teacher[:, :6]), student))
    wider = log_softmax(drawn(5, 9, seed=2))
    values = token_divergences(KdSettings(), wider, LogitRows(teacher), is_chosen=CHOSEN)
    torch.testing.assert_close(values, divergence("forward_kl", log_softmax(teacher), log_softmax(wider[:, :8])))


def test_uld_compares_whole_vocabularies_of_different_size():
    teacher, student = drawn(5, 8), log_softmax(drawn(5, 6, seed=2))
    settings = KdSettings(divergence="uld")
    whole = token_divergences(settings, student, LogitRows(teacher), is_chosen=CHOSEN)
    torch.testing.assert_close(whole, uld(log_softmax(teacher), student))
    rows = lists(log_softmax(teacher))
    torch.testing.assert_close(token_divergences(settings, student, rows, is_chosen=ALL), top_k_uld(student, rows))


def test_the_teacher_carries_no_gradient():
    states, head = drawn(5, 3).requires_grad_(), OutputHead(drawn(6, 3, seed=3).requires_grad_())
    student = log_softmax(drawn(5, 6, seed=2).requires_grad_())
    token_divergences(KdSettings(), student, HiddenStateRows(states), is_chosen=CHOSEN, head=head).sum().backward()
    assert states.grad is None
    assert head.weight.grad is None


@pytest.mark.parametrize("settings", [KdSettings(on="chosen", temperature=1.3), DistillM2Settings(), GkdSettings()])
def test_gradient_is_that_of_finite_differences(settings):
    rows = LogitRows(drawn(5, 6))
    assert torch.autograd.gradcheck(
        lambda x: token_divergences(settings, log_softmax(x), rows, is_chosen=CHOSEN),
        drawn(5, 6, seed=2).requires_grad_(),
    )


def test_narrow_log_probs_give_float32():
    student = log_softmax(drawn(5, 6)).bfloat16()
    for settings in (DpoSettings(), KdSettings(on="chosen"), KdSettings()):
        values = token_divergences(settings, student, LogitRows(drawn(5, 6).bfloat16()), is_chosen=CHOSEN)
        assert values.dtype == torch.float32


@pytest.mark.parametrize(("rows", "tier"), [(lists(log_softmax(drawn(5, 6))), "top-k"), (counts(), "sampled")])
def test_a_temperature_on_sparse_rows_is_refused(rows, tier):
    with pytest.raises(RecipeError, match=f"temperature is 2, and the teacher is known from tier {tier} alone"):
        token_loss_values(TokenLoss("forward_kl", temperature=2.0), log_softmax(drawn(5, 6)), rows)


def test_selected_rows_are_those_that_the_index_names():
    rows = lists(log_softmax(drawn(5, 6)))
    chosen = selected_rows(rows, torch.tensor([4, 0]))
    assert torch.equal(chosen.tail_mass, rows.tail_mass[[4, 0]])
    assert torch.equal(chosen.token_ids, rows.token_ids[[4, 0]])
    assert chosen.is_told is None
