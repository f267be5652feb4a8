import pytest
import torch
from torch import Tensor

from distill.numerics import log_softmax
from distill.objectives import (
    DadpoSettings,
    DistillM2Settings,
    HiddenStateRows,
    KdSettings,
    OutputHead,
    SampledRows,
    TeacherRows,
    TopKRows,
    token_divergences,
)
from distill.objectives.chunk_terms import ChunkTerms, ForwardKlTerm, ListedTerm
from distill.objectives.fused import fused_token_values
from distill.objectives.token_losses import PairSettings
from distill.training.chunk_terms import chunk_terms

TOKENS, HIDDEN, VOCAB = 7, 3, 10
IS_CHOSEN = torch.tensor([True, False, True, True, False, False, True])


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STATES, STUDENT, TEACHER = (
    normal(TOKENS, HIDDEN, seed=1),
    OutputHead(normal(VOCAB, HIDDEN, seed=2)),
    normal(VOCAB, 2, seed=3),
)
TARGETS = torch.arange(TOKENS)
HIDDEN_ROWS = HiddenStateRows(normal(TOKENS, 2, seed=4))


def lists(is_told: Tensor | None = None, *, vocab_size: int | None = None) -> TopKRows:
    log_probs, ids = log_softmax(normal(TOKENS, VOCAB, seed=5)).topk(3)
    return TopKRows(ids, log_probs, 1 - log_probs.exp().sum(-1), is_told, vocab_size)


def draws() -> SampledRows:
    ids = torch.tensor([[0, 4, 0], [9, 1, 2], [3, 0, 0], [5, 6, 7], [0, 0, 0], [8, 2, 1], [1, 3, 9]])
    counts = torch.tensor([[2, 1, 0], [1, 1, 1], [3, 0, 0], [1, 1, 1], [0, 0, 0], [1, 2, 2], [1, 1, 4]])
    return SampledRows(ids, counts)


def terms_of(settings: PairSettings, rows: TeacherRows, *, teacher: OutputHead | None = None) -> ChunkTerms:
    head = OutputHead(TEACHER) if teacher is None else teacher
    return chunk_terms(settings, rows, is_chosen=IS_CHOSEN, student=STUDENT, teacher=head)


SHORT = [
    (KdSettings(), HIDDEN_ROWS, ForwardKlTerm),
    (DadpoSettings.model_validate({"token_divergence": {"weight": 1.0}}), HIDDEN_ROWS, ForwardKlTerm),
    (KdSettings(), lists(), ListedTerm),
    (KdSettings(divergence="reverse_kl", on="rejected"), lists(), ListedTerm),
    (KdSettings(), lists(torch.arange(TOKENS) != 3), ListedTerm),
    (KdSettings(), lists(vocab_size=VOCAB + 2), ListedTerm),
    (KdSettings(), draws(), ListedTerm),
    (DistillM2Settings(), lists(), ListedTerm),
]
LONG = [
    (KdSettings(divergence="reverse_kl"), HIDDEN_ROWS),
    (KdSettings(temperature=2.0), HIDDEN_ROWS),
    (KdSettings(on="chosen"), HIDDEN_ROWS),
    (KdSettings(), HiddenStateRows(HIDDEN_ROWS.hidden_states, torch.arange(TOKENS) != 2)),
    (KdSettings(divergence="uld"), lists()),
    (KdSettings(), lists(vocab_size=VOCAB - 2)),
]


@pytest.mark.parametrize(("settings", "rows", "kind"), SHORT)
def test_the_shorter_way_is_taken_where_there_is_one(settings, rows, kind):
    assert isinstance(terms_of(settings, rows), kind)


@pytest.mark.parametrize(("settings", "rows"), LONG)
def test_everything_else_sees_whole_distributions(settings, rows):
    assert isinstance(terms_of(settings, rows), tuple)


@pytest.mark.parametrize(("settings", "rows"), [case[:2] for case in SHORT] + LONG)
def test_every_way_says_what_the_objective_says_of_whole_distributions(settings, rows):
    found = fused_token_values(STATES, STUDENT, TARGETS, terms_of(settings, rows), max_logits=3 * VOCAB)
    log_probs = log_softmax(STUDENT.logits(STATES))
    expected = token_divergences(settings, log_probs, rows, is_chosen=IS_CHOSEN, head=OutputHead(TEACHER))
    torch.testing.assert_close(found[1], expected)


def test_a_wider_teacher_is_compared_over_the_students_tokens():
    wide = OutputHead(normal(VOCAB + 3, 2, seed=6), normal(VOCAB + 3, seed=7))
    terms = terms_of(KdSettings(), HIDDEN_ROWS, teacher=wide)
    assert isinstance(terms, ForwardKlTerm)
    found = fused_token_values(STATES, STUDENT, TARGETS, terms)
    log_probs = log_softmax(STUDENT.logits(STATES))
    expected = token_divergences(KdSettings(), log_probs, HIDDEN_ROWS, is_chosen=IS_CHOSEN, head=wide)
    torch.testing.assert_close(found[1], expected)


@pytest.mark.parametrize("width", [VOCAB - 1, VOCAB])
def test_heads_that_lack_or_rule_out_tokens_are_compared_as_whole_distributions(width):
    bias = torch.zeros(width, dtype=torch.float64)
    bias[-1] = -torch.inf
    head = OutputHead(TEACHER[:width], bias if width == VOCAB else None)
    assert isinstance(terms_of(KdSettings(), HIDDEN_ROWS, teacher=head), tuple)


def test_without_rows_there_is_no_term():
    assert chunk_terms(DadpoSettings(), None, is_chosen=IS_CHOSEN, student=STUDENT, teacher=None) == ()
