import json

import pytest
import torch
import transformers

from distill.errors import ModelError
from distill.models import LoadedModel, ScratchSettings, new_model, save_model
from distill.models.scalar_head import last_token_states, load_scalar_head, scalar_head, with_scalar_head
from tests.tiny_shape import TINY_SHAPE

ROWS = [[5, 6, 7, 8, 9, 3], [5, 6], [7, 3, 3]]


@pytest.fixture(scope="module")
def body(tokenizer) -> LoadedModel:
    shape = ScratchSettings(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24)
    return LoadedModel(new_model(shape, tokenizer, seed=1), tokenizer, "tiny", "scratch")


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    return torch.linspace(-1.0, 1.0, 16)


@pytest.fixture(scope="module")
def folder(body, weight, tmp_path_factory):
    path = tmp_path_factory.mktemp("reward") / "model"
    save_model(with_scalar_head(body.model, weight), body.tokenizer, path)
    return path


def rewards(model, rows):
    return last_token_states(model, rows) @ scalar_head(model)


def test_a_saved_head_gives_the_numbers_that_transformers_own_classifier_gives(folder, body, weight):
    loaded = load_scalar_head(folder, device="cpu")
    ours = rewards(loaded.model, ROWS)
    theirs = [loaded.model(input_ids=torch.tensor([row])).logits.item() for row in ROWS]
    torch.testing.assert_close(ours, torch.tensor(theirs))
    torch.testing.assert_close(ours, last_token_states(body.model, ROWS) @ weight)


def test_states_do_not_depend_on_what_else_is_in_the_batch(body):
    alone = torch.cat([last_token_states(body.model, [row]) for row in ROWS])
    torch.testing.assert_close(last_token_states(body.model, ROWS), alone)
    torch.testing.assert_close(last_token_states(body.model, ROWS, max_rows=2), alone)


def test_the_last_token_counts_even_when_it_is_the_padding_token(body):
    """Many models pad with their end token; looking for the last token that is no padding would miss it."""
    pad = body.tokenizer.pad_token_id
    with_pad, without = last_token_states(body.model, [[5, 6, pad], [5, 6]])
    assert not torch.allclose(with_pad, without)


def test_the_body_is_shared_and_not_copied(body, weight):
    classifier = with_scalar_head(body.model, weight)
    assert classifier.model.embed_tokens.weight is body.model.model.embed_tokens.weight


def test_a_language_model_is_no_reward_model(body, tmp_path):
    save_model(body.model, body.tokenizer, tmp_path / "chat")
    config = tmp_path / "chat" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_labels": 1, "id2label": {"0": "LABEL_0"}}))
    with pytest.raises(ModelError, match=r"holds no weights for score\.weight"):
        load_scalar_head(tmp_path / "chat", device="cpu")


def test_a_model_of_two_labels_is_refused(folder, tmp_path, body):
    two = transformers.AutoModelForSequenceClassification.from_config(
        transformers.LlamaConfig(**{**TINY_SHAPE, "vocab_size": len(body.tokenizer)}, num_labels=2)
    )
    save_model(two, body.tokenizer, tmp_path / "two")
    with pytest.raises(ModelError, match="has 2 labels"):
        load_scalar_head(tmp_path / "two", device="cpu")


def test_a_damaged_model_is_refused(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "no-such-family"}))
    with pytest.raises(ModelError, match="cannot be built"):
        load_scalar_head(broken, device="cpu")


def test_adapters_and_pickles_are_refused(folder, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    (tmp_path / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="holds adapters, no whole reward model"):
        load_scalar_head(tmp_path, device="cpu")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((folder / "config.json").read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="a pickle"):
        load_scalar_head(pickled, device="cpu")


def test_a_family_with_a_head_of_another_shape_is_refused(body):
    bert = transformers.BertLMHeadModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            is_decoder=True,
        )
    )
    with pytest.raises(ModelError, match="no sequence classifier with one linear `score`"):
        with_scalar_head(bert, torch.zeros(8))
