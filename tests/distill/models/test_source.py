import shutil

import pytest
import torch

from distill.embedded import teacher_folder
from distill.errors import ModelError
from distill.models.source import adapter_base, find_source, locate, read_model_json


def test_a_moved_folder_keeps_its_fingerprint(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "moved")
    assert find_source(saved).fingerprint == find_source(tmp_path / "moved").fingerprint


def test_other_weights_have_another_fingerprint(saved):
    before = find_source(saved).fingerprint
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    assert find_source(saved).fingerprint != before


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"model folder .*nowhere does not exist"):
        find_source(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"model folder \./nowhere does not exist"):
        find_source("./nowhere")


def test_a_hub_id_that_cannot_be_reached_is_refused():
    with pytest.raises(ModelError, match="model nobody/nothing is neither a folder here nor a model on the hub"):
        find_source("nobody/nothing")


def test_a_folder_without_configuration_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"is not a model folder\nwhy: it has no config.json"):
        find_source(tmp_path)


def test_a_damaged_configuration_is_refused(saved):
    (saved / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json is not JSON"):
        read_model_json(saved / "config.json")


def test_pickled_weights_are_refused_with_the_way_out(saved):
    (saved / "model.safetensors").unlink()
    torch.save({}, saved / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"as pytorch_model.bin, a pickle\n(.|\n)*fix: convert it once"):
        find_source(saved)


def test_a_folder_without_weights_is_refused(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        find_source(saved)


def test_truncated_weights_are_refused(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model.safetensors is missing or damaged"):
        find_source(saved)


def test_a_shard_that_the_index_names_and_nobody_copied_is_refused(saved):
    (saved / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing or damaged"):
        find_source(saved)


def test_adapters_name_their_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/name"}')
    assert locate(tmp_path).kind == "adapter"
    assert adapter_base(locate(tmp_path)) == "owner/name"


def test_a_base_beside_the_adapters_is_found(tmp_path):
    (tmp_path / "adapters").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text('{"base_model_name_or_path": "../base"}')
    assert adapter_base(locate(tmp_path / "adapters")) == tmp_path / "adapters" / "../base"


def test_adapters_without_base_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(ModelError, match="names no base model"):
        adapter_base(locate(tmp_path))


def test_embedded_is_the_teacher_of_the_package():
    assert locate("embedded").folder == teacher_folder()


def test_weights_are_downloaded_only_where_they_are_wanted(monkeypatch, tmp_path):
    asked = []

    def download(hub_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(set(allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    locate("owner/name")
    locate("owner/name", with_weights=False)
    assert asked[0] - asked[1] == {"*.safetensors"}
    assert asked[1] >= {"*.json", "*.jinja"}
