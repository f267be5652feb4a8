"""Runs with adapters from the recipe to the checkpoint that needs neither peft nor bitsandbytes."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from distill.data import read_conversations
from distill.models import load_model, quantization_of
from distill.pipeline.merged import with_merged_checkpoint
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe
from distill.progress import read_metrics

SFT = (
    "sft={answers: data, labelled: labelled, objective: {name: sft}, learning_rate: 3.0e-2, max_steps: 3,"
    " global_batch_size: 2, max_length_tokens: 1024, warmup_ratio: 0.0}"
)
STUDENTS = {"lora": [], "nf4 and lora": ["student.quantization=nf4"]}


@pytest.fixture(scope="module", params=sorted(STUDENTS))
def adapted(request: pytest.FixtureRequest, tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Fine-tuned and then trained from the cache, adapters all the way."""
    output = tmp_path_factory.mktemp("adapted") / "run"
    overrides = [
        SFT,
        "student.lora={rank: 2}",
        *STUDENTS[request.param],
        "data.num_labelled=2",
        "train.learning_rate=3.0e-2",
        "export=null",
        "evaluate=null",
        f"output={output}",
    ]
    return run_recipe(load_recipe(tiny_recipe, overrides))


def logits(model: torch.nn.Module, run: RunFolder) -> list[torch.Tensor]:
    """Of the held-out chats, as the student's template shows them."""
    tokenizer = load_model(run.recipe.student.path or "").tokenizer
    found = []
    for chat in read_conversations(run.conversations("valid")):
        messages = [message.to_json() for message in chat.messages]
        ids = tokenizer.apply_chat_template(messages, return_dict=False, return_tensors="pt")
        with torch.inference_mode():
            found.append(model(input_ids=ids[:, :200]).logits)
    return found


def furthest(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(some, others, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "train"])
def test_a_run_with_adapters_ends_in_a_checkpoint_that_says_what_base_and_adapters_say(adapted: RunFolder, stage: str):
    folder = adapted.stage(stage)
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", local_files_only=True)
    student = load_model(folder / "model")
    assert quantization_of(student.model) == adapted.recipe.student.quantization
    expected = logits(student.model, adapted)
    assert furthest(logits(merged, adapted), expected) < 1e-3
    start = load_model(adapted.recipe.student.path or "", quantization=adapted.recipe.student.quantization)
    assert furthest(logits(start.model, adapted), expected) > 0.05
    if quantization_of(student.model) is not None:
        # What the base is on disk says something else, with or without adapters.
        own = load_model(adapted.recipe.student.path or "")
        assert furthest(logits(own.model, adapted), logits(start.model, adapted)) > 2e-3
    assert not hasattr(merged.config, "quantization_config")
    assert not list((folder / "merged").glob("adapter*"))


@pytest.mark.slow
def test_training_goes_on_from_the_adapters_of_stage_sft_and_holds_them_for_the_reference(adapted: RunFolder):
    """Policy = reference at first: of the margin only -beta_teacher delta_te is left."""
    (first, *_) = read_metrics(adapted.stage("train") / "metrics.jsonl")
    assert first["margin"] == pytest.approx(-0.05 * first["delta_te"], abs=1e-5)
    before, after = (load_model(adapted.stage(stage) / "model").model for stage in ("sft", "train"))
    assert furthest(logits(before, adapted), logits(after, adapted)) > 0.01


def test_a_student_without_adapters_has_nothing_to_merge(finished: RunFolder):
    assert with_merged_checkpoint(finished.stage("train")) == {}
    assert not (finished.stage("train") / "merged").exists()
