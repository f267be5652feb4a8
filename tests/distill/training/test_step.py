import math
from collections.abc import Iterator

import pytest
import torch

from distill.data import TokenizedConversation
from distill.errors import TrainingError
from distill.models.world import World, process_group
from distill.numerics import log_softmax
from distill.objectives import dadpo_loss
from distill.objectives.output_head import OutputHead
from distill.objectives.table import SftSettings
from distill.training.cached_scores import cached_scores
from distill.training.engine import clips_outside, memory_plan, start_engine
from distill.training.feed import Feed
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep, loss_contributions
from distill.training.trainer import prepared_module
from tests.distill.training.examples import Scored, dialogues, new_student, settings, tokenizer

ALONE = World(0, 1, 0)
OBJECTIVES: list[dict[str, object]] = [
    {"name": "sft"},
    {"name": "dpo", "nll_weight": 0.1},
    {"name": "dadpo"},
    {"name": "dadpo", "token_divergence": {"name": "reverse_kl", "weight": 0.5}},
    {"name": "kd", "on": "chosen"},
]


@pytest.fixture
def world() -> Iterator[World]:
    with process_group() as world:
        yield world


def started(chosen: TrainSettings, world: World, *, teacher_head: OutputHead | None = None) -> StudentStep:
    engine = start_engine(prepared_module(new_student(), chosen), chosen, world=world)
    outside = clips_outside(memory_plan(chosen), chosen)
    return StudentStep(engine, chosen, world=world, teacher_head=teacher_head, clips_outside=outside)


def fed(chosen: TrainSettings, scored: Scored, world: World) -> Feed:
    if isinstance(chosen.objective, SftSettings):
        return Feed(dialogues(16), chosen, pad_id=0, seed=2, world=world)
    scores = cached_scores(
        scored.pairs,
        chosen,
        teacher_cache=scored.teacher,
        reference_cache=scored.reference,
        student_vocab_size=scored.teacher.manifest.vocab_size,
        tokenizer=tokenizer(),
    )
    return Feed(scored.pairs, chosen, pad_id=0, seed=2, world=world, scores=scores)


def test_sft_loss_known_answer():
    """One target token out of 4, logits all equal: ln 4; over a global count of 2 tokens, half of it."""
    rows = [TokenizedConversation("a", (0, 1), (False, True)), TokenizedConversation("b", (0, 2), (False, True))]
    feed = Feed(rows, settings(global_batch_size=2, micro_batch_size=1), pad_id=0, seed=0, world=ALONE)
    batch = feed.step(0)
    result = loss_contributions(SftSettings(), torch.zeros(1, 4), batch.passes[0], batch.counts)
    assert result["loss"].item() == pytest.approx(math.log(4) / 2)


def test_dadpo_loss_is_the_public_one_on_summed_log_probs(scored: Scored):
    """The step's loss equals `dadpo_loss` on sequence log-probs made by hand from the same logits."""
    chosen = settings(objective={"name": "dadpo", "beta_reference": 0.2, "beta_teacher": 0.3})
    batch = fed(chosen, scored, ALONE).step(0)
    part = batch.passes[0]
    logits = torch.randn(len(part.target_ids), 280, generator=torch.Generator().manual_seed(0))
    log_probs = log_softmax(logits)[torch.arange(len(part.target_ids)), part.target_ids]
    sums = torch.stack([log_probs[part.token_rows == row].sum() for row in range(16)])
    reference, teacher = part.reference_log_probs, part.teacher_log_probs
    assert reference is not None
    assert teacher is not None
    expected = dadpo_loss(
        sums[:8], sums[8:], reference[:8], reference[8:], teacher[:8], teacher[8:], beta_reference=0.2, beta_teacher=0.3
    ).mean()
    result = loss_contributions(chosen.objective, logits, part, batch.counts)
    torch.testing.assert_close(result["loss"], expected)
    torch.testing.assert_close(result["chosen_log_prob"], sums[:8].mean())


def test_kd_of_a_student_that_is_its_teacher_is_zero(scored: Scored):
    chosen = settings(objective={"name": "kd"})
    batch = fed(chosen, scored, ALONE).step(0)
    part = batch.passes[0]
    assert part.teacher_hidden_states is not None
    logits = scored.teacher.head.logits(part.teacher_hidden_states)
    result = loss_contributions(chosen.objective, logits, part, batch.counts, teacher_head=scored.teacher.head)
    assert abs(result["loss"].item()) < 1e-6


@pytest.mark.parametrize("wider", ["teacher", "student"])
def test_rows_that_only_one_head_has_change_nothing_in_kd(scored: Scored, wider: str):
    """Given a token that both have, padding tells nothing; what it weighs does not enter the divergence."""
    chosen = settings(objective={"name": "kd"})
    batch = fed(chosen, scored, ALONE).step(0)
    part, head = batch.passes[0], scored.teacher.head
    assert part.teacher_hidden_states is not None
    padded = OutputHead(torch.cat([head.weight, torch.randn(8, head.weight.shape[1])]))
    logits = torch.randn(len(part.target_ids), len(head.weight))
    expected = loss_contributions(chosen.objective, logits, part, batch.counts, teacher_head=head)
    if wider == "student":
        logits = torch.cat([logits, torch.randn(len(logits), 8)], dim=1)
    found = loss_contributions(
        chosen.objective, logits, part, batch.counts, teacher_head=padded if wider == "teacher" else head
    )
    torch.testing.assert_close(found["loss"], expected["loss"])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: "-".join(map(str, o.values()))[:30])
def test_one_pass_of_eight_and_four_passes_of_two_are_the_same_step(
    scored: Scored, world: World, objective: dict[str, object]
):
    """Rows differ in length, so a mean of means would differ."""
    rows, weights = [], []
    for micro_batch_size in (8, 2):
        chosen = settings(objective=objective, micro_batch_size=micro_batch_size, max_grad_norm=1e9)
        step = started(chosen, world, teacher_head=scored.teacher.head)
        feed = fed(chosen, scored, world)
        rows.append([step.train(feed.step(number), lr=1e-2, number=number + 1) for number in range(2)])
        weights.append([parameter.detach().clone() for parameter in step.engine.module.parameters()])
    for one, many in zip(*rows, strict=True):
        assert one == pytest.approx(many, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-4)


def test_a_pass_that_does_not_count_changes_nothing(world: World):
    """One example in one pass, or in the first of two passes."""
    losses = []
    for micro_batch_size in (8, 4):
        chosen = settings(micro_batch_size=micro_batch_size)
        feed = Feed(dialogues(1), chosen, pad_id=0, seed=0, world=world)
        losses.append(started(chosen, world).train(feed.step(0), lr=1e-3, number=1))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_gradient_is_clipped_and_its_norm_told_from_before(world: World):
    """With plain SGD-like first AdamW steps the norm is what it was; the clipped gradient has norm 1e-3."""
    chosen = settings(max_grad_norm=1e-3)
    step = started(chosen, world)
    feed = Feed(dialogues(8), chosen, pad_id=0, seed=0, world=world)
    metrics = step.train(feed.step(0), lr=1e-3, number=1)
    moments = [state["exp_avg"] for state in step.engine.optimizer.state.values()]
    clipped = math.sqrt(sum(float((moment / (1 - 0.9)).pow(2).sum()) for moment in moments))
    assert metrics["grad_norm"] > 0.1
    assert clipped == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(world: World):
    chosen = settings()
    step = started(chosen, world)
    with torch.no_grad():
        next(step.engine.module.parameters())[0, 0] = math.nan
    before = [parameter.detach().clone() for parameter in step.engine.module.parameters()]
    feed = Feed([TokenizedConversation("a", (0, 1, 2), (False, False, True))], chosen, pad_id=0, seed=0, world=world)
    with pytest.raises(TrainingError, match=r"loss of step 17 is nan(.|\n)*lower learning_rate"):
        step.train(feed.step(0), lr=1e-3, number=17)
    torch.testing.assert_close(list(step.engine.module.parameters()), before, equal_nan=True)


def test_the_held_out_loss_is_the_training_loss_of_the_same_rows(scored: Scored, world: World):
    """Eight pairs make one batch of both; evaluating changes no weight."""
    chosen = settings(objective={"name": "dadpo"}, micro_batch_size=4)
    step = started(chosen, world)
    feed = fed(chosen, Scored(scored.pairs[:8], scored.teacher, scored.reference), world)
    held_out = step.evaluate(feed)
    trained = step.train(feed.step(0), lr=1e-3, number=1)
    assert held_out["valid_loss"] == pytest.approx(trained["loss"], rel=1e-5)
    assert held_out["valid_delta_te"] == pytest.approx(trained["delta_te"], rel=1e-4)
