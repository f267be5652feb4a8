import importlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.data import TokenizedConversation
from distill.errors import TrainingError
from distill.models.world import World, import_deepspeed, process_group
from distill.objectives.output_head import OutputHead
from distill.objectives.table import SftSettings
from distill.training.cached_scores import cached_scores
from distill.training.engine import clips_outside, memory_plan, start_engine
from distill.training.feed import Feed
from distill.training.guard import LossGuard
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep, UnsoundStepError
from distill.training.training_run import prepared_module
from tests.distill.training.examples import Scored, dialogues, new_student, settings, tokenizer

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
    engine = start_engine(prepared_module(new_student(), chosen), chosen)
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


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: "-".join(map(str, o.values()))[:30])
def test_one_pass_and_as_many_as_a_small_budget_makes_are_the_same_step(
    scored: Scored, world: World, objective: dict[str, object]
):
    """Rows differ in length, so a mean of means would differ; the second step has another number of passes."""
    rows, weights = [], []
    for max_tokens in (8192, 24):
        chosen = settings(objective=objective, max_tokens_per_pass=max_tokens, max_grad_norm=1e9)
        step = started(chosen, world, teacher_head=scored.teacher.head)
        feed = fed(chosen, scored, world)
        rows.append([step.train(feed.step(number), lr=1e-2, number=number + 1) for number in range(2)])
        weights.append([parameter.detach().clone() for parameter in step.engine.module.parameters()])
    for one, many in zip(*rows, strict=True):
        assert one == pytest.approx(many, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-4)


def test_a_pass_that_does_not_count_changes_nothing(world: World):
    """One example alone, and with a repetition of it that does not count."""
    chosen = settings()
    batch = Feed(dialogues(1), chosen, pad_id=0, seed=0, world=world).step(0)
    repeated = replace(batch, passes=(*batch.passes, replace(batch.passes[0], is_counted=False)))
    losses = [started(chosen, world).train(each, lr=1e-3, number=1) for each in (batch, repeated)]
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


def test_the_readings_of_a_batch_make_its_loss(scored: Scored, world: World):
    """Examples in three passes: the mean of their losses is the batch's; log-probs are those that are logged."""
    chosen = settings(objective={"name": "dadpo"}, micro_batch_size=3)
    step = started(chosen, world)
    batch = fed(chosen, scored, world).step(0)
    before = [parameter.detach().clone() for parameter in step.engine.module.parameters()]
    metrics, readings = step.read(batch)
    losses = torch.cat([one.losses for one in readings])
    assert len(losses) == batch.counts.num_examples == 8
    assert float(losses.mean()) == pytest.approx(metrics["loss"], rel=1e-5)
    chosen_log_probs = torch.cat([one.log_probs[0::2] for one in readings])
    assert float(chosen_log_probs.mean()) == pytest.approx(metrics["chosen_log_prob"], rel=1e-5)
    assert step.train(batch, lr=0.0, number=1)["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    torch.testing.assert_close(list(step.engine.module.parameters()), before)


def test_readings_of_dialogues_are_means_over_their_own_tokens(world: World):
    chosen = settings(micro_batch_size=2)
    step = started(chosen, world)
    metrics, readings = step.read(Feed(dialogues(8), chosen, pad_id=0, seed=0, world=world).step(0))
    lengths = torch.cat([one.micro_batch.answer_lengths for one in readings])
    losses = torch.cat([one.losses for one in readings])
    assert float((losses * lengths).sum() / lengths.sum()) == pytest.approx(metrics["loss"], rel=1e-5)


def test_a_pass_that_does_not_count_is_in_no_readings(world: World):
    chosen = settings()
    batch = Feed(dialogues(1), chosen, pad_id=0, seed=0, world=world).step(0)
    repeated = replace(batch, passes=(*batch.passes, replace(batch.passes[0], is_counted=False)))
    assert len(started(chosen, world).read(repeated)[1]) == 1


def test_an_exploded_loss_stops_before_the_weights_change(world: World, tmp_path: Path):
    """Usual is 1: the first loss of a random student, ln 280, is more than 2.25 times that, and than 1.5 x 0.5."""
    chosen = settings(explosion_factor=1.5)
    step, earlier, known = started(chosen, world), LossGuard(1.5), tmp_path
    for _ in range(30):
        assert earlier.verdict(0.5) is None
    earlier.save(known)
    step.guard.load(known)
    before = [parameter.detach().clone() for parameter in step.engine.module.parameters()]
    batch = Feed(dialogues(8), chosen, pad_id=0, seed=0, world=world).step(0)
    with pytest.raises(UnsoundStepError, match=r"loss of step 31 is 5\.\d+, .* times the usual 1") as caught:
        step.train(batch, lr=1e-3, number=31)
    assert "explosion_factor=15, or null" in caught.value.fix
    torch.testing.assert_close(list(step.engine.module.parameters()), before)
    tolerant = started(settings(explosion_factor=None), world)
    tolerant.guard.load(known)
    assert tolerant.train(batch, lr=1e-3, number=31)["loss"] == pytest.approx(caught.value.metrics["loss"])


@pytest.mark.parametrize(("dtype", "stage"), [("float32", 0), ("float32", 2), ("bfloat16", 1)])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(
    tmp_path: Path, world: World, dtype: str, stage: int
):
    (tmp_path / "plan.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    chosen = settings(dtype=dtype, deepspeed=str(tmp_path / "plan.json"))
    step = started(chosen, world)
    next(step.engine.module.parameters()).register_hook(lambda gradient: gradient * math.inf)
    before = [parameter.detach().clone() for parameter in step.engine.module.parameters()]
    with pytest.raises(UnsoundStepError, match=r"grad_norm of step 5 is (nan|inf|-1)"):
        step.train(Feed(dialogues(8), chosen, pad_id=0, seed=0, world=world).step(0), lr=1e-3, number=5)
    torch.testing.assert_close(list(step.engine.module.parameters()), before)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's word that this processor has no float16 is not taken: torch computes it, slowly."""
    import_deepspeed()
    accelerator = importlib.import_module("deepspeed.accelerator").get_accelerator()
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    monkeypatch.setattr(type(accelerator), "is_fp16_supported", lambda self: True)
    monkeypatch.setattr(type(accelerator), "supported_dtypes", lambda self: dtypes)


@pytest.mark.usefixtures("half")
def test_a_step_whose_float16_gradient_overflows_is_skipped_and_counted(world: World):
    """A scale of 2^25 makes gradients of several 100 overflow; halved often enough, the student learns."""
    chosen = settings(dtype="float16", micro_batch_size=3)
    step = started(chosen, world)
    step.engine.optimizer.loss_scaler.cur_scale = 2.0**25
    feed = Feed(dialogues(16), chosen, pad_id=0, seed=0, world=world)
    before = [parameter.detach().clone() for parameter in step.engine.module.parameters()]
    first = step.train(feed.step(0), lr=1e-2, number=1)
    assert "grad_norm" not in first
    assert (first["loss_scale"], first["num_skipped_steps"]) == (2.0**24, 1.0)
    torch.testing.assert_close(list(step.engine.module.parameters()), before)
    rows = [step.train(feed.step(number), lr=1e-2, number=number + 1) for number in range(1, 20)]
    assert 0.1 < rows[-1]["grad_norm"] < 10.0
    assert rows[-1]["num_skipped_steps"] == sum("grad_norm" not in row for row in [first, *rows])
    assert rows[-1]["loss"] < first["loss"] - 0.3


@pytest.mark.usefixtures("half")
def test_a_float16_gradient_that_fits_at_no_scale_ends_the_run(world: World):
    chosen = settings(dtype="float16")
    step = started(chosen, world)
    next(step.engine.module.parameters()).register_hook(lambda gradient: gradient * math.inf)
    step.engine.optimizer.loss_scaler.cur_scale = 4.0
    feed = Feed(dialogues(8), chosen, pad_id=0, seed=0, world=world)
    assert step.train(feed.step(0), lr=1e-3, number=1)["num_skipped_steps"] == 1.0
    with pytest.raises(UnsoundStepError, match=r"gradient of step 2 overflows float16 at a loss scale of 2") as caught:
        step.train(feed.step(1), lr=1e-3, number=2)
    assert "bfloat16" in caught.value.fix
