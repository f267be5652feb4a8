import importlib.util
import json
import shutil

import pytest
import torch

from distill.errors import ModelError
from distill.models import load_model
from distill.models.packed_formats import packed_by, reading_packed, settle


@pytest.fixture
def packed(saved, tmp_path):
    """A folder that says a quantizer packed it."""

    def make(method: str):
        folder = tmp_path / method
        shutil.copytree(saved, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
        return folder

    return make


@pytest.mark.parametrize("method", ["torchao", "auto-round", "compressed-tensors"])
def test_the_configuration_says_who_packed_a_model(packed, method):
    assert packed_by(packed(method)) == method


def test_plain_models_files_and_other_quantizers_are_none_of_these(saved, packed, tmp_path):
    assert packed_by(saved) is None
    assert packed_by(packed("bitsandbytes")) is None
    assert packed_by(tmp_path / "model.gguf") is None


@pytest.mark.parametrize(
    ("method", "install"),
    [
        ("torchao", r"pip install 'torchao>=0\.18'"),
        ("auto-round", r"pip install 'auto-round>=0\.16'"),
        ("compressed-tensors", r"pip install 'compressed-tensors>=0\.19'"),
    ],
)
def test_a_format_whose_package_is_missing_is_refused_with_its_install_line(packed, monkeypatch, method, install):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with (
        pytest.raises(ModelError, match=rf"packed by {method}(.|\n)*not installed\nfix: {install}"),
        reading_packed(packed(method)),
    ):
        pass


def test_a_plain_model_is_ready_as_it_is(saved):
    model = load_model(saved).model
    assert settle(model, saved, torch.bfloat16) is model


def test_a_packed_model_in_another_dtype_is_refused(saved, packed):
    model = load_model(saved).model
    with pytest.raises(ModelError, match=r"as torch\.float32, not as torch\.bfloat16"):
        settle(model, packed("auto-round"), torch.bfloat16)
