"""Also a program: run by torchrun, a training in which one example of one rank has no finite loss."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.data import TokenizedConversation
from distill.errors import TrainingError
from distill.models import LoadedModel
from distill.training import train
from tests.distill.training.examples import Scored, dialogues, job_environment, new_student, settings, tokenizer

BAD_TOKEN = 279


def poisoned(token_id: int = BAD_TOKEN) -> LoadedModel:
    """A student that makes nan of one token that it reads (its head is its own, so that other tokens stay sound)."""
    student = new_student()
    head = torch.nn.Linear(16, 280, bias=False)
    with torch.no_grad():
        head.weight.copy_(student.model.lm_head.weight)
        student.model.lm_head = head
        student.model.config.tie_word_embeddings = False
        student.model.model.embed_tokens.weight[token_id] = math.nan
    return student


def with_a_bad_one(count: int) -> list[TokenizedConversation]:
    bad = TokenizedConversation("the-bad-one", (1, BAD_TOKEN, 2, 3), (False, False, True, True))
    return [*dialogues(count - 1), bad]


def test_a_step_without_a_finite_loss_is_written_down_and_named(tmp_path: Path):
    chosen = settings(micro_batch_size=3, max_steps=1, learning_rate=1e-2)
    with pytest.raises(
        TrainingError, match=r"loss of step 1 is nan\n.*largest losses: the-bad-one \(nan\), .*failed_step_000001"
    ) as caught:
        train(poisoned(), with_a_bad_one(8), settings=chosen, output_dir=tmp_path, seed=1)
    assert caught.value.exit_code == 1
    folder = tmp_path / "failed_step_000001"
    assert sorted(path.name for path in folder.iterdir()) == ["failure.json", "rank_0.json", "rank_0.safetensors"]
    record = json.loads((folder / "failure.json").read_text())
    assert (record["format"], record["version"], record["step"]) == ("distill-failed-step", 1, 1)
    assert record["metrics"]["loss"] == "nan"
    assert record["lr"] == pytest.approx(1e-2)
    assert record["settings"]["micro_batch_size"] == 3
    assert len(record["examples"]) == 8
    assert [example["id"] for example in record["examples"] if example["loss"] == "nan"] == ["the-bad-one"]
    told = json.loads((folder / "rank_0.json").read_text())["passes"]
    number, bad = next((n, e) for n, p in enumerate(told) for e in p["examples"] if e["id"] == "the-bad-one")
    assert bad["answers"][0]["predicted"] == tokenizer().decode([2, 3])
    assert bad["answers"][0]["num_tokens"] == 2
    tensors = load_file(folder / "rank_0.safetensors")
    assert BAD_TOKEN in tensors[f"{number}.input_ids"]
    assert {"token_answers", "branch_ids", "target_ids"} <= {name.partition(".")[2] for name in tensors}
    assert not list(tmp_path.glob(".*partial"))


def test_the_scores_and_the_text_of_a_pair_stand_beside_its_loss(tmp_path: Path, scored: Scored):
    """Poisoned is the first token of one pair's prompt, so that both its answers have no finite log-prob."""
    pair, *_ = scored.pairs
    chosen = settings(objective={"name": "dpo"}, global_batch_size=16, max_steps=1, checks_start=False)
    with pytest.raises(TrainingError, match=f"loss of step 1 is nan\n.*{pair.id}"):
        train(
            poisoned(pair.chosen.prompt_ids[0]),
            scored.pairs,
            settings=chosen,
            output_dir=tmp_path,
            seed=1,
            reference_cache=scored.reference,
        )
    told = json.loads((tmp_path / "failed_step_000001" / "rank_0.json").read_text())["passes"]
    by_id = {example["id"]: example for one in told for example in one["examples"]}
    for sequence, answer in zip((pair.chosen, pair.rejected), by_id[pair.id]["answers"], strict=True):
        assert answer["read"] == tokenizer().decode(list(sequence.prompt_ids))
        assert answer["predicted"] == tokenizer().decode(list(sequence.completion_ids))
        expected = float(scored.reference.sequence_log_probs([sequence.sequence_id])[0])
        assert answer["reference_log_prob"] == pytest.approx(expected, rel=1e-5)
        assert answer["student_log_prob"] == "nan"


@pytest.mark.slow
def test_both_ranks_stop_together_and_each_writes_its_part(tmp_path: Path):
    """Under ZeRO-3, where a rank that went on alone would wait for ever for the other's weights."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    result = subprocess.run(
        [sys.executable, *command, str(tmp_path / "run"), str(plan)],
        env=job_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    folder = tmp_path / "run" / "failed_step_000001"
    assert sorted(path.name for path in folder.glob("rank_*.json")) == ["rank_0.json", "rank_1.json"]
    for rank in range(2):
        assert "the-bad-one (nan)" in (tmp_path / "run" / f"told_by_{rank}").read_text()
    record = json.loads((folder / "failure.json").read_text())
    assert [example["loss"] for example in record["examples"]].count("nan") == 1
    assert len(record["examples"]) == 8


def run(output: Path, plan: Path) -> None:
    """Trains into the failure, and writes what was told to this rank."""
    chosen = settings(micro_batch_size=1, max_steps=1, deepspeed=str(plan))
    try:
        train(poisoned(), with_a_bad_one(8), settings=chosen, output_dir=output, seed=1)
    except TrainingError as error:
        (output / f"told_by_{os.environ['RANK']}").write_text(str(error))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
