import dataclasses
import json
import re
import shutil

import pytest
from safetensors.torch import load_file, save_file

from distill.decoding import Generation
from distill.errors import ExportError
from distill.export.gguf import write_gguf
from distill.export.smoke import DEFAULT_QUESTIONS, TRICKY_CHAT, _compare, expected_answers, smoke_test
from distill.models import load_model


@pytest.fixture(scope="session")
def expected(llama_folder, dialogues):
    return expected_answers(load_model(llama_folder), dialogues, num_prompts=10, max_new_tokens=40)


class Perfect:
    """An artefact that says what was expected."""

    def __init__(self, expected):
        self.expected = expected

    def generate(self, prompts, settings, *, seed):
        return list(self.expected.answers)

    def render(self, messages):
        return self.expected.texts[self.expected.chats.index(tuple(messages))]

    def tokenize(self, text):
        return self.expected.token_ids[self.expected.texts.index(text)]


def compare(artefact, expected):
    return _compare(artefact, expected, runtime="llama.cpp", min_same_text=0.5)


def test_a_model_answers_the_last_question_of_each_chat(expected, dialogues):
    assert expected.prompts[0] == dialogues[0].messages[:4]
    assert all(answer.finish_reason == "stop" for answer in expected.answers)
    assert "$4.50" in expected.answers[0].text
    assert expected.chats[0] == TRICKY_CHAT


def test_without_chats_common_questions_are_asked(llama_folder):
    expected = expected_answers(load_model(llama_folder), [], num_prompts=3, max_new_tokens=2)
    assert [prompt[0].content for prompt in expected.prompts] == list(DEFAULT_QUESTIONS[:3])


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
@pytest.mark.parametrize("file_type", ["f16", "q8_0"])
def test_llama_cpp_answers_as_transformers_does(request, tmp_path, dialogues, student, file_type):
    folder = request.getfixturevalue(student)
    expected = expected_answers(load_model(folder), dialogues, num_prompts=10, max_new_tokens=40)
    write_gguf(folder, tmp_path / "model.gguf", file_type=file_type)
    report = smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.8)
    assert report.num_same_token_ids == 11
    assert report.num_stopped >= 8
    if file_type == "f16":
        assert report.num_same_text == report.num_prompts == 10


def test_transformers_answers_as_itself(llama_folder, expected):
    report = smoke_test(llama_folder, expected, runtime="transformers", min_same_text=1.0)
    assert (report.num_same_text, report.num_stopped, report.num_merged_stopped) == (10, 10, 10)


def test_without_the_row_order_of_q_and_k_the_smoke_test_fails(llama_folder, tmp_path, expected):
    """Rows un-interleaved beforehand come out of the conversion as transformers has them, which llama.cpp misreads."""
    shutil.copytree(llama_folder, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    for name, value in weights.items():
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        if heads is not None:
            weights[name] = value.reshape(heads, 8, 2, 64).swapaxes(1, 2).reshape(value.shape).contiguous()
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=r"greedy answer to [0-3] of 10 prompts"):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.5)


def test_another_tokenizer_fails_the_smoke_test(llama_folder, tmp_path, expected):
    shutil.copytree(llama_folder, tmp_path / "model")
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:5]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=r"cuts \d+ of 11 rendered chats into other tokens"):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.5)


def test_another_template_fails_the_smoke_test(llama_folder, tmp_path, expected):
    shutil.copytree(llama_folder, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=re.escape("llama.cpp renders a chat as")):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.5)


def test_a_perfect_artefact_passes(expected):
    assert compare(Perfect(expected), expected).num_same_text == 10


def test_a_special_token_in_an_answer_is_refused(expected):
    artefact = Perfect(dataclasses.replace(expected, answers=[Generation("Hi<|end|>", 2, "stop")] * 10))
    with pytest.raises(ExportError, match=re.escape("llama.cpp prints the special token <|end|>")):
        compare(artefact, expected)


def test_an_answer_that_does_not_end_is_refused(expected):
    endless = [dataclasses.replace(answer, finish_reason="length") for answer in expected.answers]
    with pytest.raises(ExportError, match="does not stop where the merged model does"):
        compare(Perfect(dataclasses.replace(expected, answers=endless)), expected)


@pytest.mark.parametrize("runtime", ["llama.cpp", "transformers"])
def test_what_does_not_load_is_refused(tmp_path, expected, runtime):
    (tmp_path / "model.gguf").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=f"does not work in {re.escape(runtime)}"):
        smoke_test(tmp_path / "model.gguf", expected, runtime=runtime, min_same_text=0.5)
