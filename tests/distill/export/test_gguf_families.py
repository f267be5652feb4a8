"""Every family's tiny model in llama.cpp: the same next-token distributions as in transformers, within each type."""

import importlib.util
import json
import re
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from distill.data import CHAT_TEMPLATE, END_OF_TURN, PAD, SPECIAL_TOKENS
from distill.decoding import LlamaCppGenerator
from distill.errors import ExportError
from distill.export.gguf import write_gguf
from distill.export.next_token import next_log_probs, next_token_kl
from distill.export.smoke import expected_answers, smoke_test
from distill.models import load_model, save_model, train_tokenizer
from distill.numerics import log_softmax
from distill.objectives import divergence

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
FAMILIES = {
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "llama-biases": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama-3.1": (LlamaConfig, {"rope_parameters": LLAMA3}),
    "llama-linear": (LlamaConfig, {"rope_parameters": LINEAR}),
    "mistral": (MistralConfig, {"head_dim": 32, "sliding_window": None}),
    "qwen2": (Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2-yarn": (Qwen2Config, {"rope_parameters": YARN, "max_position_embeddings": 128}),
    "qwen3": (Qwen3Config, {"head_dim": 32, "num_key_value_heads": 1, "tie_word_embeddings": False}),
}
PREFIXES = [[7], list(range(40, 60)), [(11 * place) % 300 for place in range(100)]]
TEXTS = ["What is a latte? It is coffee with milk for $4.50 at 12:30.", "How are you? I am fine."] * 3


def build(name, folder):
    """Weights wide enough that every part shows, norms and biases too; an added word, and 9 rows beyond the tokens."""
    config_class, changes = FAMILIES[name]
    qwen = name.startswith("qwen")
    tokenizer = train_tokenizer(
        TEXTS,
        vocab_size=300,
        chat_template=CHAT_TEMPLATE,
        special_tokens=(*SPECIAL_TOKENS, "<|endoftext|>"),
        end_of_turn=END_OF_TURN,
        pad=PAD,
        architecture="qwen2" if qwen else "llama",
    )
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    config = config_class(vocab_size=len(tokenizer) + 9, **{**SHAPE, **changes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in key else 0.0, 0.2 if parameter.ndim == 1 else 0.1)
    save_model(model, tokenizer, folder)
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_llama_cpp_computes_what_transformers_does(tmp_path, name):
    folder = build(name, tmp_path / "model")
    loaded = load_model(folder)
    expected = next_log_probs(loaded, PREFIXES)
    tokenizer = loaded.tokenizer
    text = "<|user|>a<think>b <think>\n<|end|>"
    for file_type, bar in (("f32", 1e-5), ("f16", 1e-5), ("q8_0", 1e-3)):
        write_gguf(folder, tmp_path / "model.gguf", file_type=file_type)
        with LlamaCppGenerator(tmp_path / "model.gguf", max_length_tokens=256) as runtime:
            actual = [runtime.next_log_probs(prefix, vocab_size=len(expected[0])) for prefix in PREFIXES]
            kl = next_token_kl(expected, actual)
            assert kl <= bar, file_type
            assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_without_the_row_order_of_q_and_k_the_distributions_are_far(tmp_path, name):
    """Rows un-interleaved beforehand come out as transformers has them; the file loads and runs. 0.11 and 0.14 nats."""
    folder = build(name, tmp_path / "model")
    expected = next_log_probs(load_model(folder), PREFIXES)
    weights = load_file(folder / "model.safetensors")
    for key, value in weights.items():
        heads = {"q_proj": 4, "k_proj": 2}.get(key.split(".")[-2])
        if heads is not None:
            halves = value.reshape(heads, -1, 2, value.shape[-1]).swapaxes(1, 2)
            weights[key] = halves.reshape(value.shape).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_gguf(folder, tmp_path / "model.gguf", file_type="f32")
    with LlamaCppGenerator(tmp_path / "model.gguf", max_length_tokens=256) as runtime:
        actual = [runtime.next_log_probs(prefix, vocab_size=len(expected[0])) for prefix in PREFIXES]
    assert next_token_kl(expected, actual) > 1e-2


# llama.cpp's logits at every place, by llama-cpp-python: another build of llama.cpp, and so in a process of its own.
LLAMA_CPP_PYTHON = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="needs llama-cpp-python, built from source"
)
FULL_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# Mean KL in nats; but for the first two and q8_0, three times what such models were measured to lose.
BARS = {"f32": 1e-5, "f16": 1e-5, "bf16": 1e-4, "q8_0": 1e-3, "q5_1": 3e-2, "q5_0": 3e-2, "q4_1": 0.1, "q4_0": 0.1}
PROGRAM = """
import json, sys
import llama_cpp
import numpy as np
found = {}
for path in sys.argv[3:]:
    llama = llama_cpp.Llama(
        path, n_ctx=256, n_threads=1, logits_all=True, verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
    )
    found[path] = llama.chat_format
    for number, prefix in enumerate(json.loads(sys.argv[1])):
        llama.reset()
        llama.eval(prefix)
        np.save(f"{path}.{number}.npy", np.array(llama.scores[: len(prefix)], dtype=np.float32))
    llama.close()
with open(sys.argv[2], "w") as file:
    json.dump(found, file)
"""


def run_llama_cpp(folder, paths):
    """Writes each file's logits beside it; returns each one's chat format."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(PREFIXES[1:]), str(folder / "formats.json"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "formats.json").read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full-logits")
    paths = {}
    for name in FULL_FAMILIES:
        model = build(name, folder / name)
        for file_type in BARS:
            paths[name, file_type] = folder / f"{name}-{file_type}.gguf"
            write_gguf(model, paths[name, file_type], file_type=file_type)
    return folder, paths, run_llama_cpp(folder, paths.values())


@pytest.mark.builds
@LLAMA_CPP_PYTHON
@pytest.mark.parametrize("file_type", BARS)
@pytest.mark.parametrize("name", FULL_FAMILIES)
def test_logits_of_llama_cpp_are_those_of_transformers(written, name, file_type, record_property):
    folder, paths, _ = written
    model = load_model(folder / name).model
    kls, largest = [], 0.0
    for number, prefix in enumerate(PREFIXES[1:]):
        theirs = torch.from_numpy(np.load(f"{paths[name, file_type]}.{number}.npy"))
        with torch.inference_mode():
            ours = model(torch.tensor([prefix])).logits[0]
        assert theirs.shape == ours.shape
        largest = max(largest, float((theirs - ours).abs().max()))
        kls.append(divergence("forward_kl", log_softmax(ours.double()), log_softmax(theirs.double())))
    kl = float(torch.cat(kls).mean())
    record_property("kl_nats", kl)
    record_property("largest_logit_difference", largest)
    assert kl <= BARS[file_type]
    if file_type == "f32":
        assert largest <= 1e-4


@pytest.mark.builds
@LLAMA_CPP_PYTHON
def test_llama_cpp_python_takes_the_template_of_our_files(written):
    assert set(written[2].values()) == {"chat_template.default"}


@pytest.mark.builds
@LLAMA_CPP_PYTHON
def test_a_file_without_template_is_silently_another_model_to_it_and_caught_here(
    llama_folder, dialogues, tmp_path, monkeypatch
):
    monkeypatch.setattr(gguf.GGUFWriter, "add_chat_template", lambda writer, template: None)
    path = tmp_path / "model.gguf"
    write_gguf(llama_folder, path, file_type="f16")
    assert run_llama_cpp(tmp_path, [path]) == {str(path): "llama-2"}
    expected = expected_answers(load_model(llama_folder), dialogues, num_prompts=1, max_new_tokens=2)
    with pytest.raises(ExportError, match=re.escape("llama.cpp renders a chat as")):
        smoke_test(path, expected, runtime="llama.cpp", min_same_text=0.0)
