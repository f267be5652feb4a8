import math

import pytest
import torch
from torch import Tensor

from distill.data import TokenizedConversation
from distill.models.world import World
from distill.numerics import log_softmax
from distill.objectives import (
    LogitRows,
    OutputHead,
    PairTerms,
    TokenTerms,
    dadpo_loss,
    pair_loss,
)
from distill.objectives.table import SftSettings
from distill.training import head_loss as module
from distill.training.cached_scores import cached_scores
from distill.training.feed import Feed, GlobalBatch, MicroBatch
from distill.training.head_loss import head_loss
from distill.training.settings import TrainSettings
from tests.distill.training.examples import Scored, settings, tokenizer

ALONE = World(0, 1, 0)
VOCAB, HIDDEN = 280, 8
PAIR_OBJECTIVES: list[dict[str, object]] = [
    {"name": "dpo", "nll_weight": 0.1},
    {"name": "dadpo"},
    {"name": "dadpo", "length_normalised": True},
    {"name": "dadpo", "token_divergence": {"name": "reverse_kl", "weight": 0.5}},
    {"name": "kd", "on": "chosen", "temperature": 2.0},
    {"name": "distillm2"},
]


def fed(chosen: TrainSettings, scored: Scored) -> GlobalBatch:
    scores = cached_scores(
        scored.pairs,
        chosen,
        teacher_cache=scored.teacher,
        reference_cache=scored.reference,
        student_vocab_size=scored.teacher.manifest.vocab_size,
        tokenizer=tokenizer(),
    )
    return Feed(scored.pairs, chosen, pad_id=0, seed=2, world=ALONE, scores=scores).step(0)


def drawn(num_tokens: int) -> tuple[Tensor, OutputHead]:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(num_tokens, HIDDEN, generator=draw).requires_grad_()
    return states, OutputHead((0.5 * torch.randn(VOCAB, HIDDEN, generator=draw)).requires_grad_())


def plain(chosen: TrainSettings, part: MicroBatch, log_probs: Tensor, teacher_head: OutputHead) -> Tensor:
    """The mean loss a pair, from the whole table of log-probs."""
    of_targets = log_probs.gather(1, part.target_ids[:, None])[:, 0]
    sums = torch.stack([of_targets[part.token_answers == answer].sum() for answer in range(len(part.answer_lengths))])

    def halves(values: Tensor | None) -> list[Tensor | None]:
        return [None, None] if values is None else [values[0::2], values[1::2]]

    cached = [*halves(part.reference_log_probs), *halves(part.teacher_log_probs), *halves(part.answer_lengths)]
    tokens = None
    if part.teacher_rows is not None:
        assert not isinstance(part.teacher_rows, LogitRows)
        teacher = log_softmax(teacher_head.logits(part.teacher_rows.hidden_states))  # type: ignore[union-attr]
        tokens = TokenTerms(teacher, log_probs, part.token_answers // 2, part.token_answers % 2 == 0)
    terms = PairTerms(sums[0::2], sums[1::2], *cached)
    return pair_loss(chosen.objective, terms, tokens=tokens).loss.mean()  # type: ignore[arg-type]


def test_sft_loss_known_answer():
    """One target token out of 4, logits all equal: ln 4; over a global count of 2 tokens, half of it."""
    rows = [TokenizedConversation("a", (0, 1), (False, True)), TokenizedConversation("b", (0, 2), (False, True))]
    feed = Feed(rows, settings(global_batch_size=2, micro_batch_size=1), pad_id=0, seed=0, world=ALONE)
    batch = feed.step(0)
    loss = head_loss(SftSettings(), batch.passes[0], batch.counts)
    result = loss(torch.ones(1, 3), OutputHead(torch.zeros(4, 3)))
    assert result["loss"].item() == pytest.approx(math.log(4) / 2)


@pytest.mark.parametrize("max_logits", [2 * VOCAB, 20 * VOCAB, 2**24])
@pytest.mark.parametrize("objective", PAIR_OBJECTIVES, ids=lambda o: "-".join(map(str, o.values()))[:30])
def test_every_pair_objective_is_its_public_loss_on_the_whole_table(
    scored: Scored, objective: dict[str, object], max_logits: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(module.MAX_LOGITS, "cpu", max_logits)
    chosen = settings(objective=objective)
    batch = fed(chosen, scored)
    (part,) = batch.passes
    states, head = drawn(len(part.target_ids))
    expected = plain(chosen, part, log_softmax(head.logits(states)), scored.teacher.head)
    found = head_loss(chosen.objective, part, batch.counts, teacher_head=scored.teacher.head)(states, head)
    torch.testing.assert_close(found["loss"], expected, rtol=1e-5, atol=1e-5)
    leaves = [states, head.weight]
    gradients = torch.autograd.grad(found["loss"], leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, leaves), rtol=1e-4, atol=1e-6)


def test_dadpo_loss_is_the_public_one_on_summed_log_probs(scored: Scored):
    chosen = settings(objective={"name": "dadpo", "beta_reference": 0.2, "beta_teacher": 0.3})
    batch = fed(chosen, scored)
    (part,) = batch.passes
    states, head = drawn(len(part.target_ids))
    log_probs = log_softmax(head.logits(states)).detach()
    of_targets = log_probs.gather(1, part.target_ids[:, None])[:, 0]
    sums = torch.stack([of_targets[part.token_answers == answer].sum() for answer in range(16)])
    reference, teacher = part.reference_log_probs, part.teacher_log_probs
    assert reference is not None
    assert teacher is not None
    scores = [half for values in (sums, reference, teacher) for half in (values[0::2], values[1::2])]
    result = head_loss(chosen.objective, part, batch.counts)(states, head)
    torch.testing.assert_close(result["loss"], dadpo_loss(*scores, beta_reference=0.2, beta_teacher=0.3).mean())
    torch.testing.assert_close(result["chosen_log_prob"], sums[0::2].mean())
    torch.testing.assert_close(result["rejected_log_prob"], sums[1::2].mean())


def test_kd_of_a_student_that_is_its_teacher_is_zero(scored: Scored):
    chosen = settings(objective={"name": "kd"})
    batch = fed(chosen, scored)
    (part,) = batch.passes
    states = part.teacher_rows.hidden_states  # type: ignore[union-attr]
    loss = head_loss(chosen.objective, part, batch.counts, teacher_head=scored.teacher.head)
    assert abs(loss(states, scored.teacher.head)["loss"].item()) < 1e-6


@pytest.mark.parametrize("wider", ["teacher", "student"])
def test_rows_that_only_one_head_has_change_nothing_in_kd(scored: Scored, wider: str):
    """Given a token that both have, padding tells nothing; what it weighs does not enter the divergence."""
    chosen = settings(objective={"name": "kd"})
    batch = fed(chosen, scored)
    (part,) = batch.passes
    states, head = drawn(len(part.target_ids))
    teacher_head = scored.teacher.head
    expected = head_loss(chosen.objective, part, batch.counts, teacher_head=teacher_head)(states, head)
    if wider == "student":
        head = OutputHead(torch.cat([head.weight, torch.randn(8, HIDDEN)]))
    else:
        teacher_head = OutputHead(torch.cat([teacher_head.weight, torch.randn(8, teacher_head.weight.shape[1])]))
    found = head_loss(chosen.objective, part, batch.counts, teacher_head=teacher_head)(states, head)
    torch.testing.assert_close(found["loss"], expected["loss"])


def test_a_pass_that_does_not_count_adds_zeros_with_a_gradient_of_zeros():
    row = TokenizedConversation("a", (0, 1), (False, True))
    batch = Feed([row], settings(), pad_id=0, seed=0, world=World(1, 2, 1)).step(0)
    states, head = drawn(1)
    result = head_loss(SftSettings(), batch.passes[0], batch.counts)(states, head)
    assert result["loss"].item() == 0.0
    result["loss"].backward()
    assert torch.count_nonzero(states.grad) == 0  # type: ignore[arg-type]
