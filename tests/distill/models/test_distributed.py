"""Run as a program: one rank of a job that loads a model in pieces, and compares it with the whole one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.data import CHAT_TEMPLATE
from distill.errors import ModelError
from distill.models import (
    LoadedModel,
    ScratchSettings,
    final_hidden_states,
    load_model,
    new_model,
    output_head,
    save_model,
    train_tokenizer,
)
from distill.models.distributed import (
    device_map_arguments,
    inference_plan,
    is_partitioned,
    require_loadable,
    with_head_in_reach,
)
from distill.models.world import process_group

ROOT = Path(__file__).parents[3]
SIZES = ScratchSettings(hidden_size=32, num_layers=2, num_heads=4, num_key_value_heads=2, intermediate_size=48)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny saved model, head tied to the embedding or not."""
    path = tmp_path_factory.mktemp("whole") / "model"
    tokenizer = train_tokenizer(["a latte for 4.50, please"] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)
    scratch = SIZES.model_copy(update={"tie_embeddings": request.param})
    save_model(new_model(scratch, tokenizer, seed=0), tokenizer, path)
    return path


def states_and_logits(loaded: LoadedModel, *, first: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model says of two rows, through its body and its output head."""
    ids = torch.arange(first, first + 20).view(2, 10)
    with torch.inference_mode():
        states = final_hidden_states(loaded.model, input_ids=ids, attention_mask=torch.ones_like(ids))
        return states, output_head(loaded.model).logits(states)


def test_a_device_map_changes_no_number(folder: Path):
    whole, spread = load_model(folder), load_model(folder, placement="device-map")
    assert spread.fingerprint == whole.fingerprint
    for ours, theirs in zip(states_and_logits(spread), states_and_logits(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_device_map_takes_limits_per_device():
    assert device_map_arguments() == {"device_map": "auto"}
    assert device_map_arguments({0: "2GB", "cpu": "8GB"})["max_memory"] == {0: "2GB", "cpu": "8GB"}


def test_an_offloaded_head_comes_within_reach(folder: Path):
    accelerate = pytest.importorskip("accelerate")
    whole, offloaded = load_model(folder), load_model(folder)
    accelerate.cpu_offload(offloaded.model, execution_device=torch.device("cpu"))
    assert output_weight(offloaded).is_meta
    with_head_in_reach(offloaded.model)
    assert not output_weight(offloaded).is_meta
    for ours, theirs in zip(states_and_logits(offloaded), states_and_logits(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def output_weight(loaded: LoadedModel) -> torch.Tensor:
    """The weight of the model's output head, wherever it is."""
    return loaded.model.get_output_embeddings().weight


def test_a_head_that_is_in_reach_is_left_alone(folder: Path):
    loaded = load_model(folder)
    before = loaded.model.get_output_embeddings()
    assert with_head_in_reach(loaded.model).get_output_embeddings() is before


@pytest.mark.parametrize(
    ("kind", "quantization"), [("adapter", None), ("gguf", None), ("model", "nf4")], ids=["adapter", "gguf", "nf4"]
)
def test_zero_3_refuses_what_it_cannot_cut(kind: str, quantization: str | None):
    with pytest.raises(ModelError, match=r"placement is zero-3, with .*(adapter|gguf|nf4)"):
        require_loadable("zero-3", kind=kind, quantization=quantization)
    require_loadable("device-map", kind=kind, quantization=quantization)


def test_the_plan_names_the_dtype_and_where_pieces_wait():
    assert "offload_param" not in inference_plan(torch.float32, offload=False)["zero_optimization"]
    plan = inference_plan(torch.bfloat16, offload=True)
    assert plan["bf16"] == {"enabled": True}
    assert plan["zero_optimization"]["offload_param"]["device"] == "cpu"
    assert [is_partitioned(placement) for placement in ("one-device", "device-map", "zero-3")] == [False, False, True]


@pytest.mark.slow
def test_two_ranks_hold_half_a_model_each_and_say_what_the_whole_one_says(folder: Path, tmp_path: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    result = subprocess.run(
        [*command, str(folder), str(tmp_path)],
        env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert all(report["largest_difference"] == 0 for report in found)
    assert all(report["share_held_between_passes"] < 0.6 for report in found)


def run(folder: Path, output: Path) -> None:
    """One rank: different rows on each, as many passes on each."""
    with process_group() as world:
        whole, cut = load_model(folder), load_model(folder, placement="zero-3")
        pairs = zip(
            states_and_logits(cut, first=5 + world.rank), states_and_logits(whole, first=5 + world.rank), strict=True
        )
        report = {
            "largest_difference": max(float((ours - theirs).abs().max()) for ours, theirs in pairs),
            "share_held_between_passes": sum(p.ds_tensor.numel() for p in cut.model.get_decoder().parameters())
            / sum(p.numel() for p in whole.model.get_decoder().parameters()),
        }
        (output / f"{world.rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
