import json
from pathlib import Path

import pytest
import torch

from distill.errors import RecipeError
from distill.models import LoadedModel, LoraSettings, Quantization, add_lora, load_model, save_model
from distill.models.packed_student import PackedStudent
from distill.models.world import World
from distill.training import train
from distill.training.feed import Feed
from distill.training.head_loss import head_loss
from distill.training.trainable import require_trainable
from distill.training.training_run import prepared_module
from tests.distill.training.examples import dialogues, new_student, settings

LORA = LoraSettings(rank=2, alpha=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, folder = new_student(), tmp_path_factory.mktemp("base") / "base"
    save_model(base.model, base.tokenizer, folder)
    return folder


def plan(folder: Path, stage: int) -> str:
    """A memory plan of this ZeRO stage, for any dtype."""
    path = folder.parent / f"stage{stage}.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    return str(path)


def student(folder: Path, quantization: Quantization | None = None, *, adapts: bool = True) -> LoadedModel:
    loaded = load_model(folder, quantization=quantization)
    if adapts:
        loaded.model = add_lora(loaded.model, LORA, seed=0)  # type: ignore[arg-type]
    return loaded


def test_students_of_plain_weights_and_adapters_on_four_bits_are_trainable(folder: Path):
    require_trainable(student(folder, adapts=False), settings())
    require_trainable(student(folder, "nf4"), settings(deepspeed=plan(folder, 2)))


def test_eight_bits_are_refused(folder: Path):
    with pytest.raises(RecipeError, match=r"quantization is int8(.|\n)*round the activations too(.|\n)*=nf4"):
        require_trainable(student(folder, "int8"), settings())


def test_packed_weights_without_adapters_are_refused(folder: Path):
    with pytest.raises(RecipeError, match=r"has no adapters(.|\n)*only norms and embeddings(.|\n)*student.lora="):
        require_trainable(student(folder, "nf4", adapts=False), settings())


def test_packed_weights_are_not_cut_into_pieces(folder: Path):
    with pytest.raises(RecipeError, match=r"stage3.json is ZeRO stage 3(.|\n)*a plan of stage 1 or 2"):
        require_trainable(student(folder, "nf4"), settings(deepspeed=plan(folder, 3)))


def test_a_student_of_frozen_weights_is_refused(folder: Path):
    frozen = student(folder, adapts=False)
    frozen.model.requires_grad_(False)
    with pytest.raises(RecipeError, match=r"no weight of the student .* learns(.|\n)*frozen"):
        train(frozen, dialogues(2), settings=settings(), output_dir=folder / "nowhere", seed=0)


def test_embeddings_are_not_resized(folder: Path):
    wider = student(folder, adapts=False)
    wider.tokenizer.add_tokens(["<new>"])
    with pytest.raises(RecipeError, match=r"has 281 tokens, its embedding 280 rows(.|\n)*are not resized here"):
        require_trainable(wider, settings())


def test_rows_beyond_the_tokens_are_padding_and_welcome(folder: Path):
    """Vocabularies are often padded to a multiple of 64."""
    padded = student(folder, adapts=False)
    padded.model.resize_token_embeddings(320)
    require_trainable(padded, settings())


def factors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in load_model(folder).model.state_dict().items() if "lora_" in name}


@pytest.mark.slow
@pytest.mark.parametrize(("quantization", "stages"), [(None, [0, 2, 3]), ("nf4", [0, 2])])
def test_adapters_learn_the_same_under_every_memory_plan(
    folder: Path, tmp_path: Path, quantization: Quantization | None, stages: list[int]
):
    found = []
    for stage in stages:
        chosen = settings(deepspeed=plan(folder, stage), max_steps=3)
        output = tmp_path / str(stage)
        train(student(folder, quantization), dialogues(16), settings=chosen, output_dir=output, seed=0)
        found.append(factors(output / "model"))
    assert all(weight.abs().max() > 0 for weight in found[0].values())
    for others in found[1:]:
        torch.testing.assert_close(others, found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_adapters_learn_the_same_from_recomputed_activations(folder: Path, quantization: Quantization | None):
    """Nothing below the first adapter has a gradient, so recomputation must not wait for one."""
    gradients = []
    for recomputes in (False, True):
        module = prepared_module(student(folder, quantization), settings(gradient_checkpointing=recomputes))
        gradients.append(_gradients(module))
    assert gradients[0]
    assert any(gradient.abs().max() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])


def _gradients(module: PackedStudent) -> dict[str, torch.Tensor]:
    chosen = settings()
    batch = Feed(dialogues(8), chosen, pad_id=0, seed=0, world=World(0, 1, 0), form=module.form).step(0)
    (part,) = batch.passes
    module(part.pack, head_loss(chosen.objective, part, batch.counts), runs=part.runs)["loss"].backward()
    learns = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    assert all("lora_" in name and weight.grad is not None for name, weight in learns.items())
    return {name: weight.grad for name, weight in learns.items() if weight.grad is not None}
