import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.data import CHAT_TEMPLATE, SPECIAL_TOKENS
from distill.errors import ExportError, RecipeError
from distill.export.bitsandbytes import write_bitsandbytes
from distill.export.gguf import write_gguf
from distill.export.merge import dtype_as_stored, write_merged
from distill.files import sha256_of_file
from distill.models import (
    LoraSettings,
    ScratchSettings,
    add_lora,
    find_source,
    load_model,
    new_model,
    save_model,
    train_tokenizer,
)

QUERY = {"target_modules": ["q_proj"]}
VARIANTS = {
    "scales and ranks by pattern, and biases": {
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "use_rslora": True,
        "rank_pattern": {"layers.0.self_attn.q_proj": 2},
        "alpha_pattern": {"v_proj": 32},
        "bias": "all",
    },
    "an embedding beside a saved MLP": {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["mlp"]},
    "a saved embedding and head": {**QUERY, "modules_to_save": ["embed_tokens", "lm_head"]},
    "a head": {"target_modules": ["q_proj", "lm_head"]},
    "an embedding tied to the head": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
}
UNTIED = ("an embedding beside a saved MLP", "a saved embedding and head", "a head")
OTHERS = {
    "DoRA": {**QUERY, "use_dora": True},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
}


def stirred(model, folder, target, tokenizer):
    """Saves adapters that change what the model says, all of them learnable and none at its start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.peft_config["default"].base_model_name_or_path = str(folder)
    save_model(model, tokenizer, target)
    return target


def with_adapters(folder, target, *, quantization=None):
    loaded = load_model(folder, quantization=quantization)
    model = add_lora(loaded.model, LoraSettings(rank=4, alpha=8), seed=0)
    return stirred(model, folder, target, loaded.tokenizer)


def with_peft(folder, target, *, kind="LoraConfig", **settings):
    import peft

    loaded = load_model(folder)
    sizes = {"r": 4, "lora_alpha": 8} if kind == "LoraConfig" else {}
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **sizes, **settings)
    return stirred(peft.get_peft_model(loaded.model, config), folder, target, loaded.tokenizer)


def logits(folder):
    with torch.inference_mode():
        return load_model(folder).model(torch.arange(30)[None]).logits


def tensors(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def ties(folder):
    return json.loads((folder / "config.json").read_text())["tie_word_embeddings"]


def random_base(folder, *, architecture, ties):
    """A model that has learnt nothing: merging does not ask for more."""
    texts = ["a flat white", "two espressos", "What does it cost?"]
    tokenizer = train_tokenizer(
        texts,
        vocab_size=300,
        chat_template=CHAT_TEMPLATE,
        special_tokens=(*SPECIAL_TOKENS, "<|endoftext|>"),  # Qwen2's tokenizer class adds it when it is reloaded
        architecture=architecture,
    )
    shape = ScratchSettings(
        architecture=architecture,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        tie_embeddings=ties,
    )
    model = new_model(shape, tokenizer, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    save_model(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def tied_base(tmp_path_factory):
    return random_base(tmp_path_factory.mktemp("merge") / "tied", architecture="llama", ties=True)


@pytest.fixture(scope="session")
def untied_base(tmp_path_factory):
    return random_base(tmp_path_factory.mktemp("merge") / "untied", architecture="qwen2", ties=False)


@pytest.fixture(scope="session")
def adapters(tied_base, tmp_path_factory):
    return with_adapters(tied_base, tmp_path_factory.mktemp("adapters") / "adapters")


def test_merged_adapters_say_what_base_and_adapters_said(tied_base, adapters, tmp_path):
    report = write_merged(adapters, tmp_path / "merged", dtype="float32")
    assert report.merge_delta < 1e-3
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(adapters), rtol=1e-4, atol=1e-3)
    assert (logits(tmp_path / "merged") - logits(tied_base)).abs().max() > 0.1
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", VARIANTS)
def test_each_way_to_adapt_a_weight_is_merged(tied_base, tmp_path, caplog, name):
    adapters = with_peft(tied_base, tmp_path / "adapters", **VARIANTS[name])
    report = write_merged(adapters, tmp_path / "merged", dtype="float32")
    assert "in memory" not in caplog.text
    assert report.merge_delta < 1e-3
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(adapters), rtol=1e-4, atol=1e-3)
    is_untied = name in UNTIED
    assert ties(tmp_path / "merged") is not is_untied
    assert ("lm_head.weight" in tensors(tmp_path / "merged")) is is_untied


@pytest.mark.parametrize("name", OTHERS)
def test_other_adapters_are_merged_as_a_whole_and_said_so(tied_base, tmp_path, caplog, name):
    kind = "IA3Config" if name == "IA3" else "LoraConfig"
    adapters = with_peft(tied_base, tmp_path / "adapters", kind=kind, **OTHERS[name])
    write_merged(adapters, tmp_path / "merged", dtype="float32")
    assert "is merged in memory as a whole: the adapters are no plain LoRA" in caplog.text
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(adapters), rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_head_of_its_own_keeps_to_itself(untied_base, tmp_path):
    adapters = with_peft(untied_base, tmp_path / "adapters", target_modules=["embed_tokens"])
    write_merged(adapters, tmp_path / "merged", dtype="float32")
    before, after = tensors(untied_base), tensors(tmp_path / "merged")
    assert torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_adapters_on_four_bits_are_merged_into_what_these_stand_for(tied_base, adapters, tmp_path):
    on_four_bits = with_adapters(tied_base, tmp_path / "adapters", quantization="nf4")
    report = write_merged(on_four_bits, tmp_path / "merged", dtype="float32")
    assert report.base_quantization == "nf4"
    assert report.merge_delta < 1e-3
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(on_four_bits), rtol=1e-4, atol=1e-3)
    assert (logits(adapters) - logits(on_four_bits)).abs().max() > 0.01
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())


def test_a_quantized_model_is_not_rounded_again(tied_base, tmp_path):
    write_bitsandbytes(tied_base, tmp_path / "nf4", quantization="nf4")
    write_gguf(tied_base, tmp_path / "model.gguf", file_type="q8_0")
    for source, method in ((tmp_path / "nf4", "bitsandbytes"), (tmp_path / "model.gguf", "gguf")):
        with pytest.raises(RecipeError, match=rf"is quantized already \({method}\)") as refusal:
            write_merged(source, tmp_path / "merged", dtype="float32")
        assert refusal.value.exit_code == 2
    assert not (tmp_path / "merged").exists()


def test_a_model_without_adapters_is_saved_as_it_is(tied_base, tmp_path):
    report = write_merged(tied_base, tmp_path / "merged", dtype="float32")
    assert (report.merge_delta, report.reload_delta) == (None, 0.0)
    assert tensors(tmp_path / "merged").keys() == tensors(tied_base).keys()
    assert all(torch.equal(tensors(tmp_path / "merged")[n], weight) for n, weight in tensors(tied_base).items())


def test_streamed_folders_hold_the_files_that_other_saves_write(tied_base, tmp_path):
    """The same names, modes and, but for how safetensors orders tensors, bytes."""
    write_merged(tied_base, tmp_path / "merged", dtype="float32")
    theirs = {path.name: path for path in tied_base.iterdir()}
    ours = {path.name: path for path in (tmp_path / "merged").iterdir()}
    assert ours.keys() == theirs.keys()
    assert {path.stat().st_mode & 0o777 for path in ours.values()} == {0o644}
    same = {name for name in ours if ours[name].read_bytes() == theirs[name].read_bytes()}
    assert ours.keys() - same <= {"model.safetensors"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_once(tied_base, adapters, tmp_path, dtype):
    """First the sum in float32, then the cast: not the cast of each part."""
    report = write_merged(adapters, tmp_path / "merged", dtype=dtype)
    whole = write_merged(adapters, tmp_path / "whole", dtype="float32")
    assert (report.reload_delta, report.merge_delta) == (0.0, whole.merge_delta)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == dtype
    saved = tensors(tmp_path / "merged")
    for name, weights in tensors(tmp_path / "whole").items():
        assert torch.equal(saved[name], weights.to(getattr(torch, dtype))), name


def test_many_files_say_what_one_says(tied_base, adapters, tmp_path):
    """Sharded output of adapters, and that as sharded input, cast only."""
    write_merged(adapters, tmp_path / "one", dtype="float32")
    write_merged(adapters, tmp_path / "many", dtype="float32", max_shard_bytes=40_000)
    write_merged(tmp_path / "many", tmp_path / "again", dtype="float32")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors(tmp_path / "one").values())
    assert sha256_of_file(tmp_path / "again" / "model.safetensors") == sha256_of_file(
        tmp_path / "one" / "model.safetensors"
    )


def test_two_merges_are_the_same_bytes(adapters, tmp_path):
    for name in ("first", "second"):
        write_merged(adapters, tmp_path / name, dtype="bfloat16")
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "second").iterdir())
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_a_vocabulary_with_added_tokens_and_padding_is_kept(tied_base, tmp_path):
    """One token is added and the matrix padded to a multiple of 64: 320 rows."""
    loaded = load_model(tied_base)
    loaded.tokenizer.add_tokens(["<|tool|>"], special_tokens=True)
    loaded.model.resize_token_embeddings(len(loaded.tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "resized")
    adapters = with_adapters(tmp_path / "resized", tmp_path / "adapters")
    write_merged(adapters, tmp_path / "merged", dtype="float32")
    merged = load_model(tmp_path / "merged")
    assert merged.model.get_input_embeddings().weight.shape[0] == merged.model.config.vocab_size == 320
    assert merged.tokenizer.convert_tokens_to_ids("<|tool|>") == len(merged.tokenizer) - 1
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(adapters), rtol=1e-4, atol=1e-3)


def test_a_tied_head_that_is_stored_twice_is_stored_once(tied_base, tmp_path):
    loaded = load_model(tied_base)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "twice")
    weights = tensors(tied_base)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "twice" / "model.safetensors", metadata={"format": "pt"})
    write_merged(tmp_path / "twice", tmp_path / "merged", dtype="float32")
    assert tensors(tmp_path / "merged").keys() == tensors(tied_base).keys()
    assert ties(tmp_path / "merged")


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tied_base, tmp_path):
    loaded = load_model(tied_base)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "torn")
    weights = tensors(tied_base)
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "torn" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"the checkpoint has no tensor model\.norm\.weight"):
        write_merged(tmp_path / "torn", tmp_path / "merged", dtype="float32")


def test_the_chat_template_and_all_end_tokens_travel_along(tied_base, tmp_path):
    """The tokenizer's end, the template's and one that only the base names; and how the base samples."""
    loaded = load_model(tied_base)
    end = loaded.tokenizer.eos_token_id
    loaded.model.generation_config.eos_token_id = [end, 7]
    loaded.model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.8, top_k=20)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "base")
    adapters = with_adapters(tmp_path / "base", tmp_path / "adapters")
    for source, target in ((adapters, "merged"), (tmp_path / "base", "cast")):
        write_merged(source, tmp_path / target, dtype="float32")
        config = json.loads((tmp_path / target / "generation_config.json").read_text())
        assert config["eos_token_id"] == [end, 7]
        assert (config["temperature"], config["top_p"], config["top_k"]) == (0.7, 0.8, 20)
        inline = json.loads((tmp_path / target / "tokenizer_config.json").read_text())["chat_template"]
        assert inline == (tmp_path / target / "chat_template.jinja").read_text() == loaded.tokenizer.chat_template


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_model_keeps_the_dtype_that_it_is_stored_in_unless_told(tied_base, tmp_path, dtype):
    write_merged(tied_base, tmp_path / "stored", dtype=dtype)
    assert dtype_as_stored(find_source(tmp_path / "stored")) == dtype


def test_packed_weights_are_merged_into_float32(tied_base, tmp_path):
    write_bitsandbytes(tied_base, tmp_path / "nf4", quantization="nf4")
    assert dtype_as_stored(find_source(tmp_path / "nf4")) == "float32"
