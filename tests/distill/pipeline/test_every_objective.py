"""Every objective of the table trains the quickstart's student for 100 steps, by `distill train`."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from distill import cli
from distill.models import load_model
from distill.objectives import OBJECTIVES
from distill.progress import read_metrics

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ROOT / "recipes" / "objectives.yaml"
STEPS = 100
SMALL = (
    "data.num_prompts=9",
    "data.num_valid=1",
    "data.num_test=1",
    "sft.num_prompts=4",
    "sft.num_epochs=null",
    f"sft.max_steps={STEPS}",
    "sft.global_batch_size=1",
    "sft.sampling.max_new_tokens=24",
    "pairs.turn=last",
    "pairs.keep_unfinished=true",
    "pairs.max_pairs=4",
    "pairs.teacher_sampling.max_new_tokens=24",
    "pairs.student_sampling.max_new_tokens=12",
    "cache.codec=[scores, exact, {codec: top-k, k: 8}, {codec: sampled}]",
    "train.global_batch_size=1",
    "train.max_length_tokens=128",
    "cache.max_length_tokens=128",
)
CASES: Mapping[str, list[Mapping[str, object]]] = {
    "sft": [{}],
    "dpo": [{}, {"divergence": "jensen_shannon", "label_smoothing": 0.1}],
    "dadpo": [
        {},
        {"clip": 20.0, "token_divergence": {"name": "skew_kl", "weight": 1.0, "tier": "top-k"}},
        {"length_normalised": True, "token_divergence": {"name": "forward_kl", "weight": 1.0, "tier": "sampled"}},
    ],
    "kd": [
        {"divergence": "alpha_beta", "tier": "exact", "temperature": 2.0},
        {"divergence": "uld", "nll_weight": 0.667, "tier": "exact"},
    ],
    "distillm2": [{"tier": "exact"}],
    "gkd": [{"on_policy_share": 0.5, "max_new_tokens": 8}],
}
"""Settings beside the name; between them every kind of tier is read."""


@pytest.fixture(scope="module")
def quiet_shapes():
    """Shapes are checked by every other test; here they would take most of the time."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def distil(*words: object) -> None:
    """`distill WORDS` in this process, which has to end well."""
    before = sys.argv
    sys.argv = ["distill", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        sys.argv = before
    assert not stop.value.code


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, quiet_shapes: None) -> Path:
    """A run whose stages up to the cache stand."""
    output = tmp_path_factory.mktemp("objectives") / "run"
    distil("run", RECIPE, "--until", "cache", *SMALL, f"output={output}")
    return output


def trained(prepared: Path, name: str, case: Mapping[str, object]) -> Path:
    """The folder of the stage that learned by this objective; `sft` is that of the run itself."""
    if name == "sft":
        return prepared / "sft"
    objective = yaml.safe_dump({"name": name, **case}, default_flow_style=True).strip()
    changes = (f"train.objective={objective}", "train.learning_rate=1e-3", f"train.max_steps={STEPS}")
    distil("train", RECIPE, *SMALL, f"output={prepared}", *changes)
    return prepared / "train"


EVERY = [(name, case) for name in OBJECTIVES for case in CASES.get(name, [{}])]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), EVERY, ids=lambda value: value if isinstance(value, str) else str(value))
def test_a_hundred_steps_lower_the_loss_and_leave_a_model(prepared: Path, name: str, case: Mapping[str, object]):
    assert name in CASES, f"say in CASES with which settings {name} is tried"
    folder = trained(prepared, name, case)
    losses = [row["loss"] for row in read_metrics(folder / "metrics.jsonl") if "loss" in row]
    assert len(losses) == STEPS
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    weights = load_file(folder / "model" / "model.safetensors")
    if name != "sft":
        start = load_file(prepared / "sft" / "model" / "model.safetensors")
        assert any(not torch.equal(weights[key], start[key]) for key in start)
    student = load_model(folder / "model").model
    assert student.config.hidden_size == 96
    assert student(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_every_kind_of_tier_is_read():
    found = str(CASES)
    assert all(f"'{tier}'" in found for tier in ("exact", "top-k", "sampled"))
