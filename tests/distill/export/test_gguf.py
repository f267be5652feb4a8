import json
import shutil
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from distill.decoding import LlamaCppGenerator
from distill.errors import ExportError
from distill.export.gguf import write_gguf
from distill.models import load_model, load_tokenizer
from distill.models.tokenizer import QWEN2_PIECES

TEXTS = [
    "plain words and more of them",
    "It's, it'S, I'LL, we've, they'd, o'clock, 'tis",
    "12345 1 22 333 4.50 1,000 x2 2x 0x1F",
    "naïve café Größe señor Ångström",
    "日本語のテキスト 中文 한국어 ไทย العربية עברית हिन्दी",
    "🙂🙃 👩‍👩‍👧 🇩🇪 ❤️",
    "  two leading, two trailing  ",
    "tabs\tand\t\ttabs",
    "line\nline\n\nline\r\nline\n\n\n",
    " \n \n",
    "(a+b)*[c]{d}<e>!?;:/\\|@#$%^&~`_-=",
    "if x == 1:\n    return y  # done",
    "CamelCase snake_case kebab-case",
    "<|user|>Hi<|end|><|assistant|>Hello!<|end|>",
    "<|unknown|> <| end |> <|end",
    "½ ² Ⅳ ①",
    "\u00a0non\u00a0breaking\u2003em\u3000wide",
    "a" * 50,
    "e\u0301 combining",
    "🙂<|end|>  <|user|> \n",
]


def changed(folder, target, **changes):
    """A copy of a model folder with tensors replaced, or removed where the new value is None."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    for name, value in changes.items():
        name = name.replace("__", ".")
        weights.pop(name, None)
        if value is not None:
            weights[name] = value
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def logits(path):
    with torch.inference_mode():
        return load_model(path).model(torch.arange(40)[None]).logits


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
@pytest.mark.parametrize(
    ("file_type", "share_of_block"),
    [("q8_0", 1 / 220), ("q5_0", 1 / 15.9), ("q4_0", 1 / 7.9)],
)
def test_weights_read_back_lie_within_the_formats_rounding(request, tmp_path, student, file_type, share_of_block):
    """The bound is a share of the largest weight among the 32 of a block.

    q8_0 steps by 1/127 and errs by half a step, and by 2^-11 in its float16 scale: 1/254 + 1/2048 < 1/220. q4_0
    reaches from -8 to 7 steps of 1/8, so a weight of the other sign as large as the largest errs by a whole step;
    q5_0 has steps of 1/16.
    """
    folder = request.getfixturevalue(student)
    write_gguf(folder, tmp_path / "model.gguf", file_type=file_type)
    read_back = load_model(tmp_path / "model.gguf").model.state_dict()
    for name, weights in load_file(folder / "model.safetensors").items():
        error = (read_back[name] - weights).abs().reshape(-1, 32)
        largest = weights.abs().reshape(-1, 32).amax(-1, keepdim=True)
        assert (error <= share_of_block * largest + 2**-25).all(), name


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
@pytest.mark.parametrize(
    ("file_type", "dtype"), [("f32", torch.float32), ("f16", torch.half), ("bf16", torch.bfloat16)]
)
def test_floats_are_rounded_to_the_nearest(request, tmp_path, student, file_type, dtype):
    folder = request.getfixturevalue(student)
    write_gguf(folder, tmp_path / "model.gguf", file_type=file_type)
    read_back = load_model(tmp_path / "model.gguf").model.state_dict()
    for name, weights in load_file(folder / "model.safetensors").items():
        stored = weights.to(dtype) if weights.ndim > 1 else weights
        assert torch.equal(read_back[name], stored.float()), name


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
def test_float32_changes_no_logit(request, tmp_path, student):
    folder = request.getfixturevalue(student)
    write_gguf(folder, tmp_path / "model.gguf", file_type="f32")
    torch.testing.assert_close(logits(tmp_path / "model.gguf"), logits(folder))


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
def test_llama_cpp_cuts_text_as_the_tokenizer_does(request, tmp_path, student):
    folder = request.getfixturevalue(student)
    write_gguf(folder, tmp_path / "model.gguf", file_type="f16")
    tokenizer = load_tokenizer(folder)
    texts = TEXTS if student == "llama_folder" else [text for text in TEXTS if "\u0301" not in text]  # Qwen2's NFC
    with LlamaCppGenerator(tmp_path / "model.gguf") as runtime:
        for text in texts:
            assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"], text


def cut_by(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level]}


WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
PRE_TOKENIZERS = {
    "gpt-2": (WORDS, False),
    "smollm": ({"type": "Sequence", "pretokenizers": [DIGITS, WORDS]}, False),
    "qwen2": (cut_by(QWEN2_PIECES), False),
    "llama-bpe": (cut_by(QWEN2_PIECES.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)), True),
}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_known_pre_tokenizer_cuts_text_alike_in_llama_cpp(llama_folder, tmp_path, name):
    """With merges that join white space, punctuation and digits, so that each one's cuts show in the ids."""
    shutil.copytree(llama_folder, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    joined = [
        ("Ġ", "Ġ"),
        ("1", "2"),
        ("12", "3"),
        ("2", "2"),
        ("3", "3"),
        ("Ċ", "Ċ"),
        ("Ġ", "Ċ"),
        ("(", "a"),
        ("'", "S"),
    ]
    joined += [("Ġ", "1"), (";", "Ċ"), ("ĠĠ", "ĠĠ"), ("!", "?"), ("x", "2")]
    vocab = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    replaced = [token for token, index in sorted(vocab.items(), key=lambda item: -item[1]) if token not in special]
    for (left, right), old in zip(joined, replaced, strict=False):
        vocab[left + right] = vocab.pop(old)
    tokenizer["model"]["merges"] = [list(pair) for pair in joined]
    tokenizer["pre_tokenizer"], tokenizer["model"]["ignore_merges"] = PRE_TOKENIZERS[name]
    path.write_text(json.dumps(tokenizer))
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", file_type="f16")
    reference = Tokenizer.from_file(str(path))
    with LlamaCppGenerator(tmp_path / "model.gguf") as runtime:
        for text in TEXTS:
            assert runtime.tokenize(text) == reference.encode(text, add_special_tokens=False).ids, text


def test_the_same_folder_gives_the_same_bytes(llama_folder, tmp_path):
    shutil.copytree(llama_folder, tmp_path / "elsewhere")
    write_gguf(llama_folder, tmp_path / "first.gguf", file_type="q8_0")
    write_gguf(tmp_path / "elsewhere", tmp_path / "second.gguf", file_type="q8_0")
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "second.gguf").read_bytes()


def test_the_report_counts_storage_types(llama_folder, qwen2_folder, tmp_path):
    """Two layers of 7 matrices and an embedding; 5 norms; qwen2 has 6 biases and a head of its own besides."""
    llama = write_gguf(llama_folder, tmp_path / "llama.gguf", file_type="q8_0")
    assert llama.num_tensors_by_type == {"F32": 5, "Q8_0": 15}
    qwen2 = write_gguf(qwen2_folder, tmp_path / "qwen2.gguf", file_type="q4_0")
    assert qwen2.num_tensors_by_type == {"F32": 11, "Q4_0": 14, "Q8_0": 2}


def test_bits_per_weight_of_float32_are_32(llama_folder, tmp_path):
    assert write_gguf(llama_folder, tmp_path / "model.gguf", file_type="f32").bits_per_weight == 32.0


def test_rows_that_no_block_divides_fall_back_to_float16(llama_folder, tmp_path):
    """down_proj has rows of 96, which 32 divides; cut to 80 it does not, and only the two such tensors fall back."""
    weights = load_file(llama_folder / "model.safetensors")
    cuts = {name: value[:, :80].contiguous() for name, value in weights.items() if "down_proj" in name}
    cuts |= {
        name: value[:80].contiguous() for name, value in weights.items() if "gate_proj" in name or "up_proj" in name
    }
    folder = changed(llama_folder, tmp_path / "narrow", **cuts)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    report = write_gguf(folder, tmp_path / "model.gguf", file_type="q8_0")
    assert Counter(report.num_tensors_by_type) == Counter({"F16": 2, "F32": 5, "Q8_0": 13})
    read_back, weights = load_model(tmp_path / "model.gguf").model.state_dict(), load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    torch.testing.assert_close(read_back[name], weights[name].half().float(), rtol=0, atol=0)


def test_an_embedding_larger_than_the_tokenizer_is_padded(llama_folder, tmp_path):
    weights = load_file(llama_folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    padded = torch.cat([embedding, torch.zeros(6, embedding.shape[1])])
    folder = changed(llama_folder, tmp_path / "padded", model__embed_tokens__weight=padded)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": len(padded)}))
    write_gguf(folder, tmp_path / "model.gguf", file_type="f16")
    with LlamaCppGenerator(tmp_path / "model.gguf") as runtime:
        assert runtime.tokenize("Hi<|end|>") == load_tokenizer(folder)("Hi<|end|>")["input_ids"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model__layers__1__mlp__up_proj__weight", None, r"lacks tensor model\.layers\.1\.mlp\.up_proj\.weight"),
        ("model__extra__weight", torch.ones(2, 2), r"tensor model\.extra\.weight has no place"),
        ("model__norm__weight", torch.full((64,), torch.nan), r"model\.norm\.weight holds values that are not finite"),
        ("model__layers__0__mlp__up_proj__weight", torch.full((96, 64), 1e5), "exceeds float16's range"),
    ],
)
def test_a_checkpoint_that_would_talk_nonsense_is_refused_and_leaves_no_file(
    llama_folder, tmp_path, name, value, message
):
    folder = changed(llama_folder, tmp_path / "broken", **{name: value})
    with pytest.raises(ExportError, match=message):
        write_gguf(folder, tmp_path / "out" / "model.gguf", file_type="f16")
    assert not list(tmp_path.glob("out/*"))


def test_damaged_weights_are_refused(llama_folder, tmp_path):
    shutil.copytree(llama_folder, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ExportError, match="not a readable checkpoint"):
        write_gguf(tmp_path / "broken", tmp_path / "model.gguf", file_type="f16")
