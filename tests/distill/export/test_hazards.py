import json

import pytest

from distill.errors import ArtefactError
from distill.export.hazards import CODE, PICKLES, REMOTE_CODE, refuse_hazards


def test_data_alone_passes(tmp_path):
    for name in ("model.safetensors", "model.gguf", "README.md", "Modelfile", "chat_template.jinja", "recipe.yaml"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer.json").write_text("read by no one here")
    refuse_hazards(tmp_path)


@pytest.mark.parametrize("suffix", sorted(PICKLES))
def test_a_pickle_is_refused_wherever_it_lies(tmp_path, suffix):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / f"w{suffix.upper()}").write_bytes(b"")
    with pytest.raises(ArtefactError, match="may be a pickle"):
        refuse_hazards(tmp_path)


@pytest.mark.parametrize("suffix", sorted(CODE))
def test_code_is_refused(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(ArtefactError, match="is code"):
        refuse_hazards(tmp_path)


@pytest.mark.parametrize("key", REMOTE_CODE)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_configuration_that_asks_for_code_is_refused(tmp_path, name, key):
    (tmp_path / name).write_text(json.dumps({key: {"AutoConfig": "a.B"}}))
    with pytest.raises(ArtefactError, match=f"{name} has {key}"):
        refuse_hazards(tmp_path)


def test_adapters_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "another/model"}')
    with pytest.raises(ArtefactError, match=r"adapter_config\.json brings adapters"):
        refuse_hazards(tmp_path)


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"config\.json is not JSON"):
        refuse_hazards(tmp_path)
