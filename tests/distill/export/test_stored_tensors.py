import pytest
from safetensors.torch import load_file, save_file

from distill.errors import ExportError
from distill.export.bitsandbytes import write_bitsandbytes
from distill.export.gguf import write_gguf
from distill.export.stored_tensors import stored_tensors
from distill.export.weight_error import weight_report
from distill.models import load_model


@pytest.fixture(scope="module")
def nf4_folder(qwen2_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nf4")
    write_bitsandbytes(qwen2_folder, folder, quantization="nf4")
    return folder


@pytest.fixture(scope="module")
def int8_folder(qwen2_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    write_bitsandbytes(qwen2_folder, folder, quantization="int8")
    return folder


def test_nf4_numbers_are_what_the_library_makes_of_them(nf4_folder, qwen2_folder):
    whole = load_model(nf4_folder, dequantizes=True).model.state_dict()
    stored = {tensor.name: tensor for tensor in stored_tensors(nf4_folder, merged_folder=qwen2_folder)}
    for name, tensor in stored.items():
        assert (tensor.values - whole[name]).abs().max() < 1e-6, name
    assert stored["model.layers.0.mlp.up_proj.weight"].type == "NF4"
    assert stored["model.layers.0.self_attn.q_proj.bias"].type == "F32"


def test_four_bits_and_their_scales_are_counted(nf4_folder, qwen2_folder):
    """96 x 64 weights: 4 bits each, a float32 scale for each 64 is 0.5 more; the codebook and its note add a little."""
    (up,) = (
        tensor
        for tensor in stored_tensors(nf4_folder, merged_folder=qwen2_folder)
        if tensor.name == "model.layers.0.mlp.up_proj.weight"
    )
    assert up.num_weights == 96 * 64
    assert 4.5 <= 8 * up.size_bytes / up.num_weights < 4.9


def test_errors_grow_as_bits_go(qwen2_folder, nf4_folder, int8_folder, tmp_path):
    """A rounding step of an eighth of the range against one of 1/127: an error of per cents against per mille."""
    q8 = write_gguf(qwen2_folder, tmp_path / "q8.gguf", file_type="q8_0").path
    worst = {
        name: weight_report(path, merged_folder=qwen2_folder).worst_tensors[0].relative_rmse
        for name, path in (("nf4", nf4_folder), ("int8", int8_folder), ("q8_0", q8))
    }
    assert 0.001 < worst["q8_0"] < 0.01
    assert 0.001 < worst["int8"] < 0.02
    assert 0.05 < worst["nf4"] < 0.15


def test_gguf_rows_are_compared_in_their_own_order(llama_folder, tmp_path):
    """Q and K of architecture llama are interleaved; in float32 nothing else changes."""
    path = write_gguf(llama_folder, tmp_path / "f32.gguf", file_type="f32").path
    report = weight_report(path, merged_folder=llama_folder)
    assert {error.relative_rmse for error in report.worst_tensors} == {0.0}
    assert (report.bits_per_weight, list(report.num_tensors_by_type)) == (32.0, ["F32"])


def test_gguf_density_agrees_with_the_writer(llama_folder, tmp_path):
    written = write_gguf(llama_folder, tmp_path / "q4.gguf", file_type="q4_0")
    report = weight_report(written.path, merged_folder=llama_folder)
    assert report.bits_per_weight == pytest.approx(written.bits_per_weight)
    assert report.num_tensors_by_type == written.num_tensors_by_type


def test_a_lost_tensor_is_named(llama_folder, tmp_path):
    weights = load_file(llama_folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match=r"holds nothing for tensor model\.norm\.weight"):
        list(stored_tensors(tmp_path, merged_folder=llama_folder))


def test_weights_packed_for_another_runtime_have_no_numbers(llama_folder, tmp_path):
    weights = load_file(llama_folder / "model.safetensors")
    taken = weights.pop("model.layers.0.mlp.up_proj.weight")
    weights["model.layers.0.mlp.up_proj.qweight"] = taken.to(int).to("cpu")[:, :8].contiguous()
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "auto-round"}}')
    (up,) = (t for t in stored_tensors(tmp_path, merged_folder=llama_folder) if t.name.endswith("0.mlp.up_proj.weight"))
    assert (up.type, up.values, up.size_bytes) == ("auto-round", None, 96 * 8 * 8)
