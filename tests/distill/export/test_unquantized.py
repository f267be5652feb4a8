import json
import shutil

import pytest

from distill.errors import RecipeError
from distill.export.unquantized import quantization_method, require_unquantized
from distill.models import ModelSource


def source(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return ModelSource(str(folder), folder, "model")


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "torchao", "compressed-tensors", "auto-round"])
def test_every_quantizer_is_known_by_its_own_word(tmp_path, method):
    found = source(tmp_path / "model", quantization_config={"quant_method": method})
    with pytest.raises(RecipeError, match=rf"is quantized already \({method}\)\nwhy: .*\nfix: export the model it was"):
        require_unquantized(found)


def test_a_quantizer_that_leaves_its_name_out_is_noticed(tmp_path):
    assert quantization_method(source(tmp_path / "a", quantization_config={"load_in_4bit": True})) == "bitsandbytes"
    assert quantization_method(source(tmp_path / "b", quantization_config={"bits": 4})) == "unknown"


def test_a_gguf_is_quantized(tmp_path):
    assert quantization_method(ModelSource("x", tmp_path / "model.gguf", "gguf")) == "gguf"


def test_plain_models_pass(tmp_path):
    require_unquantized(source(tmp_path / "model"))
    require_unquantized(source(tmp_path / "model", quantization_config=None))


def adapters_on(tmp_path, llama_folder, method):
    base = tmp_path / method
    shutil.copytree(llama_folder, base)
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": {"quant_method": method}}
    (base / "config.json").write_text(json.dumps(config))
    folder = tmp_path / f"adapters-{method}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    return ModelSource(str(folder), folder, "adapter")


def test_adapters_pass_on_what_can_be_made_plain_again_only(tmp_path, llama_folder):
    require_unquantized(adapters_on(tmp_path, llama_folder, "bitsandbytes"))
    with pytest.raises(RecipeError, match=r"holds adapters for .*, which is quantized already \(gptq\)"):
        require_unquantized(adapters_on(tmp_path, llama_folder, "gptq"))
