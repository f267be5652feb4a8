import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.errors import TrainingError
from distill.models import load_model
from distill.progress import read_metrics
from distill.training import TrainReport, train
from tests.distill.training.examples import Scored, dialogues, new_student, settings

EMBEDDINGS = "model.embed_tokens.weight"


def trained(output: Path, **changes: object) -> TrainReport:
    shared: dict[str, object] = {"evaluate_every_steps": 1, "max_steps": 5, "save_every_steps": 100}
    return train(
        new_student(),
        dialogues(16),
        settings=settings(**(shared | changes)),
        output_dir=output,
        seed=1,
        validation=dialogues(5, seed=1),
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def valid_losses(output: Path) -> list[float]:
    return [row["valid_loss"] for row in read_metrics(output / "metrics.jsonl") if "valid_loss" in row]


def undone(output: Path, *, after: int | None = None) -> None:
    """Takes away the result, and the checkpoints beyond step `after`."""
    shutil.rmtree(output / "model")
    (output / "train_report.json").unlink()
    for folder in (output / "checkpoints").iterdir():
        if after is not None and int(folder.name.removeprefix("step_")) > after:
            shutil.rmtree(folder)


def test_a_run_without_improvement_stops_and_stays_stopped(tmp_path: Path):
    """Nothing improves by 100 nats: of the losses of steps 1, 2 and 3, the last two are no improvement."""
    chosen = {"stop_after": 2, "min_improvement": 100.0, "log_every_steps": 50}
    report = trained(tmp_path, **chosen)
    assert (report.stop_reason, report.final_step, report.model_step) == ("no improvement", 3, 3)
    assert len(valid_losses(tmp_path)) == 3
    first = weights(tmp_path)
    undone(tmp_path)
    assert trained(tmp_path, **chosen) == report
    torch.testing.assert_close(weights(tmp_path), first, rtol=0, atol=0)


def test_the_best_step_is_kept_and_is_the_result_if_asked_for(tmp_path: Path):
    """A rate far too high makes the held-out loss rise after it fell."""
    chosen = {"keep_best": True, "final_model": "best", "keep_last": 1, "save_models": False, "learning_rate": 0.1}
    report = trained(tmp_path, schedule="constant", warmup_ratio=0.0, **chosen)
    losses = valid_losses(tmp_path)
    best = losses.index(min(losses)) + 1
    assert best < 5
    assert (report.best_step, report.model_step, report.best_valid_loss) == (best, best, min(losses))
    assert (report.stop_reason, report.final_step, report.valid_loss) == ("all steps taken", 5, losses[-1])
    kept = tmp_path / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == [f"step_{best:06d}", "step_000005"]
    assert not (kept / "step_000005" / "model").exists()
    torch.testing.assert_close(weights(tmp_path), weights(kept / f"step_{best:06d}"), rtol=0, atol=0)
    undone(tmp_path)
    shutil.rmtree(kept / f"step_{best:06d}" / "model")
    with pytest.raises(TrainingError, match=r"model is missing\nwhy: step \d has the lowest held-out loss"):
        trained(tmp_path, schedule="constant", warmup_ratio=0.0, **chosen)


def test_every_checkpoint_holds_a_model_that_loads(tmp_path: Path):
    trained(tmp_path, save_every_steps=2, max_steps=4)
    early, late = (tmp_path / "checkpoints" / f"step_00000{step}" for step in (2, 4))
    torch.testing.assert_close(weights(late), weights(tmp_path), rtol=0, atol=0)
    assert not torch.equal(weights(early)[EMBEDDINGS], weights(late)[EMBEDDINGS])
    assert load_model(early / "model").model.config.use_cache


@pytest.mark.slow
def test_an_average_is_what_is_evaluated_saved_and_resumed(tmp_path: Path):
    plain = trained(tmp_path / "plain")
    report = trained(tmp_path / "average", ema_decay=0.9, save_every_steps=3)
    assert (report.is_average, plain.is_average) == (True, False)
    assert report.final_loss == plain.final_loss
    assert report.valid_loss != plain.valid_loss
    result = weights(tmp_path / "average")
    last = tmp_path / "average" / "checkpoints" / "step_000005"
    averages = load_file(last / "ema.safetensors")
    torch.testing.assert_close({f"model.{name}": weight for name, weight in result.items()}, averages, rtol=0, atol=0)
    undone(tmp_path / "average", after=3)
    again = trained(tmp_path / "average", ema_decay=0.9, save_every_steps=3)
    assert again.valid_loss == report.valid_loss
    torch.testing.assert_close(weights(tmp_path / "average"), result, rtol=0, atol=0)


def test_pairs_held_out_by_the_settings_are_evaluated_and_not_learned_from(tmp_path: Path, scored: Scored):
    """Sixteen pairs, four of them held out: one epoch of twelve is three steps of four."""
    chosen = settings(
        objective={"name": "dpo"},
        num_valid_pairs=4,
        max_steps=None,
        num_epochs=1.0,
        global_batch_size=4,
        evaluate_every_steps=2,
    )
    report = train(
        new_student(), scored.pairs, settings=chosen, output_dir=tmp_path, seed=1, reference_cache=scored.reference
    )
    assert report.final_step == 3
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "valid_loss" in row] == [2, 3]
