import pytest
import torch

from distill.errors import RecipeError
from distill.models import ScratchSettings, count_parameters, new_model
from distill.settings import validated

SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}


def test_equal_seeds_give_equal_weights_and_other_seeds_others(tokenizer, sizes):
    first, second, other = (new_model(sizes, tokenizer, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_the_global_random_state_is_left_alone(tokenizer, sizes):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    new_model(sizes, tokenizer, seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_configuration_is_what_was_asked_for(tokenizer, architecture: str):
    settings = ScratchSettings(**SHAPE, architecture=architecture, max_length_tokens=77, rope_theta=500.0)
    model = new_model(settings, tokenizer, seed=0)
    config = model.config
    assert config.model_type == architecture
    assert config.num_key_value_heads == 4
    assert config.max_position_embeddings == 77
    assert config.rope_parameters["rope_theta"] == 500.0
    assert config.vocab_size == len(tokenizer)
    assert not model.training


def test_tied_embeddings_are_one_matrix(tokenizer):
    tied = new_model(ScratchSettings(**SHAPE), tokenizer, seed=0)
    untied = new_model(ScratchSettings(**SHAPE, tie_embeddings=False), tokenizer, seed=0)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert count_parameters(untied) - count_parameters(tied) == len(tokenizer) * 32


def test_end_and_pad_ids_are_the_tokenizers(tokenizer, sizes):
    model = new_model(sizes, tokenizer, seed=0)
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert model.config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "hidden_size is 32: it must be a multiple of num_heads 3"),
        ({"num_heads": 32}, "hidden_size / num_heads is 1: it must be even"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3: it must divide 4"),
        ({"hidden_size": 0}, "hidden_size is 0: must be positive"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(changes: dict, message: str):
    with pytest.raises(RecipeError, match=message):
        validated(ScratchSettings, {**SHAPE, **changes}, source="student.scratch")
