import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.data import step_indices
from distill.decoding.sampling import prompt_draws
from distill.errors import CacheError, RecipeError
from distill.models import LoadedModel
from distill.models.world import World
from distill.objectives import is_on_policy
from distill.progress import read_metrics
from distill.training import train
from distill.training.feed import Feed
from distill.training.live_teacher import LiveTeacher
from distill.training.rollout import Rollout, _draw_seed, require_whole_weights
from distill.training.settings import TrainSettings
from tests.distill.training.examples import (
    ROOT,
    Scored,
    job_command,
    job_environment,
    new_student,
    pairs,
    run_job,
    scored_pairs,
    settings,
)

ALONE = World(0, 1, 0)
SEED = 3


def gkd(share: float, **changes: object) -> dict[str, object]:
    return {"name": "gkd", "on_policy_share": share, "max_new_tokens": 6, "sampling_temperature": 0.7} | changes


def rollout_of(chosen: TrainSettings, student: LoadedModel | None = None, *, world: World = ALONE) -> Rollout:
    feed = Feed(pairs(16), chosen, pad_id=0, seed=SEED, world=world)
    live = LiveTeacher(new_student(1), max_tokens=chosen.max_tokens_per_pass, world=ALONE)
    return Rollout(new_student() if student is None else student, live, feed, chosen)


def sharp(seed: int) -> LoadedModel:
    """A model that is far from uniform, and another for another seed."""
    loaded = new_student(seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.4, generator=draw)
    return loaded


def trained(output: Path, objective: dict[str, object], scored: Scored | None, **changes: object) -> dict[str, Tensor]:
    train(
        new_student(),
        pairs(16),
        settings=settings(objective=objective, learning_rate=1e-2, **changes),
        output_dir=output,
        seed=SEED,
        teacher_cache=None if scored is None else scored.teacher,
        live_teacher=new_student(1),
    )
    return load_file(output / "model" / "model.safetensors")


def rows_of(output: Path) -> list[dict[str, float]]:
    return [row for row in read_metrics(output / "metrics.jsonl") if "loss" in row]


def plain_answer(student: LoadedModel, prompt: tuple[int, ...], draws: Tensor, temperature: float) -> list[int]:
    """One token after the other, the whole sequence read anew for each: the first whose running sum passes the draw."""
    answer: list[int] = []
    for draw in draws.tolist():
        with torch.no_grad():
            logits = student.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, -1].double()
        probs = torch.softmax(logits / temperature, -1)
        answer.append(int((probs.cumsum(-1) > draw).nonzero()[0, 0]))
        if answer[-1] == student.tokenizer.eos_token_id:
            break
    return answer


def plain_loss(student: LoadedModel, prompt: tuple[int, ...], answer: list[int], beta: float) -> float:
    """The mean over the answer of beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q."""

    def log_probs(loaded: LoadedModel) -> Tensor:
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double()
        return torch.log_softmax(logits[len(prompt) - 1 : -1], -1)

    p, q = log_probs(sharp(1)).exp(), log_probs(student).exp()
    m = beta * p + (1 - beta) * q
    values = beta * p * (p / m).log() + (1 - beta) * q * (q / m).log()
    return float(values.sum(-1).mean())


def test_an_on_policy_loss_is_that_of_answers_drawn_by_hand(tmp_path: Path):
    student = sharp(0)
    chosen = settings(objective=gkd(1.0, beta=0.3), max_steps=1)
    train(sharp(0), pairs(16), settings=chosen, output_dir=tmp_path, seed=SEED, live_teacher=sharp(1))
    (row,) = rows_of(tmp_path)
    indices = step_indices(16, seed=SEED, global_batch_size=8, step=0)
    prompts = [pairs(16)[index].chosen.prompt_ids for index in indices]
    draws = prompt_draws(prompts, num_draws=6, seed=_draw_seed(SEED, 0))
    answers = [plain_answer(student, prompt, own, 0.7) for prompt, own in zip(prompts, draws, strict=True)]
    losses = [plain_loss(student, prompt, answer, 0.3) for prompt, answer in zip(prompts, answers, strict=True)]
    assert 0.1 < row["loss"] < 0.7
    assert row["loss"] == pytest.approx(sum(losses) / 8, rel=1e-5)
    assert row["num_tokens"] == sum(map(len, prompts)) + sum(map(len, answers))
    assert row["is_on_policy"] == 1.0
    assert "rejected_log_prob" not in row


def test_no_share_is_kd_from_the_cache(tmp_path: Path, scored: Scored):
    kd = {"name": "kd", "divergence": "jensen_shannon", "beta": 0.3, "on": "chosen"}
    expected = trained(tmp_path / "kd", kd, scored)
    found = trained(tmp_path / "gkd", gkd(0.0, beta=0.3), scored)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert all("is_on_policy" not in row for row in rows_of(tmp_path / "gkd"))


def test_the_whole_share_never_asks_a_cache(tmp_path: Path, scored: Scored):
    """Neither with one at hand nor without; a cache of scores alone, with no distributions in it, will do too."""
    without = trained(tmp_path / "without", gkd(1.0), None)
    torch.testing.assert_close(trained(tmp_path / "with", gkd(1.0), scored), without, rtol=0, atol=0)
    plain = Scored(scored.pairs, scored.reference, scored.reference)
    torch.testing.assert_close(trained(tmp_path / "scores", gkd(1.0), plain), without, rtol=0, atol=0)


def test_a_share_mixes_both_kinds_of_steps(tmp_path: Path, scored: Scored):
    trained(tmp_path, gkd(0.5), scored, max_steps=12)
    found = [row["is_on_policy"] for row in rows_of(tmp_path)]
    assert found == [float(is_on_policy(step, seed=SEED, share=0.5)) for step in range(12)]
    assert 0 < sum(found) < 12
    assert all(("rejected_log_prob" in row) == (row["is_on_policy"] == 0.0) for row in rows_of(tmp_path))


def test_the_held_out_loss_without_a_cache_is_the_caches(tmp_path: Path, scored: Scored):
    """Of the same untouched weights: a learning rate of nearly nothing."""
    found = []
    for share in (0.0, 1.0):
        report = train(
            new_student(),
            pairs(16),
            settings=settings(objective=gkd(share), max_steps=1, learning_rate=1e-12),
            output_dir=tmp_path / str(share),
            seed=SEED,
            teacher_cache=scored.teacher,
            live_teacher=new_student(1),
            validation=pairs(5),
        )
        found.append(report.valid_loss)
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_answers_depend_on_seed_step_and_prompt_alone():
    rollout = rollout_of(settings(objective=gkd(1.0)))
    indices = [4, 9, 1, 4]
    together = rollout.answers(indices, step=2)
    assert [rollout.answers(indices, step=2, rows=[row])[0] for row in range(4)] == together
    assert rollout.answers(indices, step=3) != together
    assert together[0] != together[3], "a prompt that stands twice gets two draws"


def test_each_rank_draws_its_own_share():
    chosen = settings(objective=gkd(1.0))
    whole = rollout_of(chosen)
    indices = step_indices(16, seed=SEED, global_batch_size=8, step=5)
    drawn = dict(whole.answers(indices, step=5))
    found: dict[str, tuple[int, ...]] = {}
    for rank in range(3):
        own = rollout_of(chosen, world=World(rank, 3, rank))
        rows = range(len(indices))[rank::3]
        found |= dict(own.answers(indices, step=5, rows=rows))
    assert found == drawn


def test_drawing_changes_neither_weights_nor_the_training_mode_nor_the_generator_of_dropout():
    student = new_student()
    student.model.train()
    rollout = rollout_of(settings(objective=gkd(1.0)), student)
    before = {name: weight.clone() for name, weight in student.model.state_dict().items()}
    state = torch.random.get_rng_state()
    rollout.batch(0)
    assert student.model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(dict(student.model.state_dict()), before, rtol=0, atol=0)


def test_answers_are_cut_where_examples_are_cut():
    rollout = rollout_of(settings(objective=gkd(1.0), max_length_tokens=4))
    for _, sequence in rollout.answers(range(8), step=0):
        assert len(sequence.completion_ids) <= max(1, 4 - len(sequence.prompt_ids))


def test_the_padding_of_a_head_is_never_drawn():
    student = new_student()
    known = len(student.model.get_output_embeddings().weight)
    student.model.resize_token_embeddings(known + 400)
    rollout = rollout_of(settings(objective=gkd(1.0)), student)
    drawn = [token for _, sequence in rollout.answers(range(16), step=0) for token in sequence.completion_ids]
    assert max(drawn) < rollout.num_token_ids <= known


def test_passes_keep_to_the_token_budget_and_hold_every_answer_once():
    chosen = settings(objective=gkd(1.0), max_tokens_per_pass=20, micro_batch_size=None)
    whole = rollout_of(settings(objective=gkd(1.0))).batch(1)
    cut = rollout_of(chosen).batch(1)
    assert len(cut.passes) > len(whole.passes) == 1
    assert cut.counts == whole.counts
    assert sorted(i for part in cut.passes for i in part.example_ids) == sorted(whole.passes[0].example_ids)
    assert all(part.pack.input_ids.numel() <= 20 or len(part.example_ids) == 1 for part in cut.passes)


def test_zero_3_is_refused_for_steps_that_draw_answers():
    chosen = settings(objective=gkd(0.5), deepspeed=ROOT / "ds_configs" / "zero3_offload.json")
    with pytest.raises(RecipeError, match=r"objective gkd draws answers from the student, and .* is ZeRO-3"):
        require_whole_weights(chosen, {"zero_optimization": {"stage": 3}})
    require_whole_weights(chosen, {"zero_optimization": {"stage": 2}})
    require_whole_weights(settings(objective=gkd(0.0)), {"zero_optimization": {"stage": 3}})


def test_a_live_teacher_other_than_the_caches_is_refused(tmp_path: Path, scored: Scored):
    with pytest.raises(CacheError, match="teacher_fingerprint is 'seed-1', but 'seed-2' is asked for"):
        train(
            new_student(),
            pairs(16),
            settings=settings(objective=gkd(0.5)),
            output_dir=tmp_path,
            seed=SEED,
            teacher_cache=scored.teacher,
            live_teacher=new_student(2),
        )


@pytest.mark.parametrize("plan", ["cpu_zero1", "zero2_offload"])
def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(tmp_path: Path, scored: Scored, plan: str):
    changes = {"max_steps": 6, "save_every_steps": 3, "deepspeed": str(ROOT / "ds_configs" / f"{plan}.json")}
    uninterrupted = trained(tmp_path, gkd(0.5), scored, **changes)
    shutil.rmtree(tmp_path / "checkpoints" / "step_000006")
    (tmp_path / "train_report.json").unlink()
    shutil.rmtree(tmp_path / "model")
    torch.testing.assert_close(trained(tmp_path, gkd(0.5), scored, **changes), uninterrupted, rtol=0, atol=0)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path):
    scored_pairs(tmp_path / "caches")
    changes = {"objective": gkd(0.5), "max_steps": 40, "save_every_steps": 4, "learning_rate": 1e-2}
    jobs = {
        name: {"output": str(tmp_path / name), "settings": changes, "caches": str(tmp_path / "caches")}
        for name in ("whole", "killed")
    }
    run_job(jobs["whole"])
    process = subprocess.Popen(job_command(jobs["killed"]), env=job_environment(), stderr=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while process.poll() is None and len(read_metrics(metrics)) < 10:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run_job(jobs["killed"])
    found, expected = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("killed", "whole"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path):
    """Batches of 7 in passes of few tokens: shares and numbers of passes differ from rank to rank."""
    scored_pairs(tmp_path / "caches")
    changes = {"objective": gkd(0.5), "learning_rate": 1e-2, "global_batch_size": 7, "max_tokens_per_pass": 24}
    results = []
    for num_processes in (1, 2):
        output = tmp_path / str(num_processes)
        own = changes | {"micro_batch_size": None, "max_steps": 6}
        job = {"output": str(output), "settings": own, "caches": str(tmp_path / "caches")}
        run_job(job, num_processes=num_processes)
        results.append((load_file(output / "model" / "model.safetensors"), rows_of(output)))
    (alone, rows), (both, rows_of_both) = results
    for key in ("loss", "num_tokens", "is_on_policy"):
        assert [row[key] for row in rows_of_both] == pytest.approx([row[key] for row in rows], rel=1e-4)
    assert {row["is_on_policy"] for row in rows} == {0.0, 1.0}
    torch.testing.assert_close(both, alone, rtol=1e-3, atol=1e-4)
