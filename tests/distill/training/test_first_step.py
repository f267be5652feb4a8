import logging
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distill.errors import TrainingError
from distill.models import LoraSettings, add_lora
from distill.models.world import World, process_group
from distill.teacher_cache import TeacherCache
from distill.training import train
from distill.training.cached_scores import cached_scores
from distill.training.engine import clips_outside, memory_plan, start_engine
from distill.training.feed import Feed
from distill.training.first_step import coarsest_precision, require_reference_start
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep
from distill.training.training_run import prepared_module
from tests.distill.training.examples import Scored, new_student, settings, tokenizer

OBJECTIVES: list[dict[str, object]] = [
    {"name": "dpo"},
    {"name": "dpo", "label_smoothing": 0.2, "nll_weight": 0.3},
    {"name": "dpo", "divergence": "forward_kl"},
    {"name": "dpo", "divergence": "jensen_shannon"},
    {"name": "dpo", "divergence": "alpha", "alpha": 0.3},
    {"name": "dadpo"},
    {"name": "dadpo", "clip": 0.5, "token_divergence": {"weight": 0.5}},
    {"name": "dadpo", "length_normalised": True},
    {"name": "kd"},
]


@pytest.fixture
def world() -> Iterator[World]:
    with process_group() as world:
        yield world


def started(
    objective: dict[str, object], scored: Scored, world: World, *, reference: TeacherCache | None = None, seed: int = 0
) -> tuple[StudentStep, Feed]:
    chosen: TrainSettings = settings(objective=objective, micro_batch_size=3)
    engine = start_engine(prepared_module(new_student(seed), chosen), chosen)
    scores = cached_scores(
        scored.pairs,
        chosen,
        teacher_cache=scored.teacher,
        reference_cache=scored.reference if reference is None else reference,
        student_vocab_size=scored.teacher.manifest.vocab_size,
        tokenizer=tokenizer(),
    )
    outside = clips_outside(memory_plan(chosen), chosen)
    step = StudentStep(engine, chosen, world=world, teacher_head=scored.teacher.head, clips_outside=outside)
    return step, Feed(scored.pairs, chosen, pad_id=0, seed=2, world=world, scores=scores)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: "-".join(map(str, o.values()))[:40])
def test_a_student_that_is_its_reference_starts(scored: Scored, world: World, objective: dict[str, object]):
    step, feed = started(objective, scored, world)
    require_reference_start(step, feed.step(0), precision="float32")


def test_the_first_loss_that_is_expected_is_ln_2(scored: Scored, world: World, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "distill.training.first_step"):
        step, feed = started({"name": "dpo", "divergence": "alpha"}, scored, world)
        require_reference_start(step, feed.step(0), precision="float32")
    assert f"expected {math.log(2):.6f}" in caplog.text


@pytest.mark.parametrize("objective", [{"name": "dpo"}, {"name": "dadpo"}], ids=["dpo", "dadpo"])
def test_a_reference_that_is_another_model_is_refused(scored: Scored, world: World, objective: dict[str, object]):
    step, feed = started(objective, scored, world, reference=scored.teacher)
    with pytest.raises(
        TrainingError,
        match=r"does not start as the reference: of pair 0-\d+, the (chosen|rejected) answer has log-prob "
        r"-[0-9.]+, and -[0-9.]+ in the reference's cache; so \d+ of 16 answers",
    ) as caught:
        require_reference_start(step, feed.step(0), precision="float32")
    assert "another model" in caught.value.why
    assert "distill cache RECIPE" in caught.value.fix


def test_a_first_loss_that_is_not_the_formulas_is_refused(scored: Scored, world: World):
    """Answers are the reference's, and the loss is divided by twice the pairs that there are."""
    step, feed = started({"name": "dpo"}, scored, world)
    batch = feed.step(0)
    halved = 2 * batch.counts.num_examples
    metrics = step.read(batch)[0]

    class Halving(StudentStep):
        def read(self, batch: object) -> object:  # type: ignore[override]
            found, readings = super().read(batch)  # type: ignore[arg-type]
            return {**found, "loss": found["loss"] * batch.counts.num_examples / halved}, readings  # type: ignore[attr-defined]

    wrong = Halving(step.engine, step.settings, world=world, teacher_head=step.teacher_head, clips_outside=True)
    with pytest.raises(TrainingError, match=rf"the first loss is {metrics['loss'] / 2:.6f} and has to be 0.693147"):
        require_reference_start(wrong, batch, precision="float32")


def test_a_training_is_stopped_before_its_first_step_or_says_that_it_goes_on(
    tmp_path: Path, scored: Scored, caplog: pytest.LogCaptureFixture
):
    def started(**changes: object) -> None:
        chosen = settings(objective={"name": "dpo"}, max_steps=1, **changes)
        train(new_student(), scored.pairs, settings=chosen, output_dir=tmp_path, seed=1, reference_cache=scored.teacher)

    with pytest.raises(TrainingError, match="the student does not start as the reference"):
        started()
    assert not (tmp_path / "metrics.jsonl").exists()
    started(checks_start=False)
    assert "the student does not start as the reference" in caplog.text
    assert (tmp_path / "metrics.jsonl").exists()


def test_rounding_of_the_coarser_model_is_allowed_for():
    """Adapters in float32 beside weights in bfloat16 count as bfloat16."""
    student = new_student()
    assert coarsest_precision(student, settings()) == "float32"
    assert coarsest_precision(student, settings(dtype="float16")) == "float16"
    student.model = student.model.to(torch.bfloat16)  # type: ignore[arg-type]
    student.model = add_lora(student.model, LoraSettings(rank=2), seed=0)  # type: ignore[arg-type]
    assert coarsest_precision(student, settings()) == "bfloat16"


def test_dropout_does_not_enter(scored: Scored, world: World):
    chosen = settings(objective={"name": "dpo"})
    student = new_student()
    student.model = add_lora(student.model, LoraSettings(rank=2, dropout=0.5), seed=0)  # type: ignore[arg-type]
    engine = start_engine(prepared_module(student, chosen), chosen)
    scores = cached_scores(
        scored.pairs, chosen, teacher_cache=None, reference_cache=scored.reference, student_vocab_size=280
    )
    step = StudentStep(engine, chosen, world=world, clips_outside=True)
    feed = Feed(scored.pairs, chosen, pad_id=0, seed=2, world=world, scores=scores)
    require_reference_start(step, feed.step(0), precision="float32")
    assert step.engine.module.training
