import pytest

from distill.errors import ModelError, RecipeError
from distill.models import ModelSettings, ScratchSettings, load
from distill.settings import validated

SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize("values", [{}, {"path": "x", "prune": {"ratio": 0.2}}, {"scratch": SHAPE, "recipe": "r.yaml"}])
def test_exactly_one_origin_is_needed(values: dict):
    with pytest.raises(RecipeError, match="exactly one of path, recipe, scratch, prune is needed"):
        validated(ModelSettings, values, source="student")


def test_an_own_tokenizer_needs_a_model_from_scratch():
    with pytest.raises(RecipeError, match="tokenizer_vocab_size needs scratch"):
        validated(ModelSettings, {"path": "x", "tokenizer_vocab_size": 300}, source="student")
    assert ModelSettings(scratch=ScratchSettings(**SHAPE), tokenizer_vocab_size=300).tokenizer_vocab_size == 300


def test_a_template_needs_a_model_that_exists():
    with pytest.raises(RecipeError, match="chat_template needs path"):
        validated(ModelSettings, {"prune": {"ratio": 0.2}, "chat_template": "own.jinja"}, source="student")


def test_load_follows_the_settings(saved):
    template = saved / "own.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")
    loaded = load(ModelSettings(path=str(saved), dtype="bfloat16", device="cpu", chat_template=template))
    assert str(loaded.model.dtype) == "torch.bfloat16"
    assert loaded.tokenizer.chat_template == template.read_text()


def test_load_refuses_a_model_that_has_to_be_made_first():
    with pytest.raises(ModelError, match="name no path"):
        load(ModelSettings(scratch=ScratchSettings(**SHAPE)))
