import dataclasses
import json
import operator
import re
import shutil

import gguf
import pytest
from safetensors.torch import load_file, save_file

from distill.decoding import Generation
from distill.errors import ExportError
from distill.export.gguf import write_gguf
from distill.export.gguf_vocabulary import NORMAL
from distill.export.smoke import DEFAULT_QUESTIONS, TRICKY_CHAT, _compare, expected_answers, smoke_test
from distill.models import load_model

PRE = "tokenizer.ggml.pre"


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

    def tokenize_all(self, texts):
        corpus = self.expected.corpus
        known = dict(zip(self.expected.texts, self.expected.token_ids, strict=True))
        known |= dict(zip(corpus.texts, corpus.token_ids, strict=True))
        return [known.get(text, list(text.encode())) for text in texts]

    def ids_around_text(self):
        return []

    def stops_at(self, token_id):
        return token_id in self.expected.end_ids

    def next_log_probs(self, prefix, *, vocab_size):
        return self.expected.next_log_probs[self.expected.prefixes.index(list(prefix))].tolist()


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
    bar = {"f16": 1e-5, "q8_0": 1e-3}[file_type]
    path = tmp_path / "model.gguf"
    report = smoke_test(path, expected, runtime="llama.cpp", min_same_text=0.8, max_next_token_kl=bar)
    assert report.num_same_token_ids == 11
    assert report.num_corpus_texts > 300
    assert report.num_same_corpus_ids == sum(map(operator.eq, expected.corpus.texts, expected.corpus.normalized))
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
    with pytest.raises(ExportError, match=r"next-token distributions are .* nats from the merged model's"):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.0, max_next_token_kl=1e-2)


def test_another_pre_tokenizer_fails_the_smoke_test(llama_folder, tmp_path, expected, monkeypatch):
    """One that exists in llama.cpp, and cuts other pieces than the tokenizer's."""
    monkeypatch.setattr(
        gguf.GGUFWriter, "add_tokenizer_pre", lambda writer, pre: writer.add_string(PRE, "deepseek-llm")
    )
    write_gguf(llama_folder, tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=r"cuts \d+ of 11 rendered chats into other tokens"):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.0)


def test_another_pre_tokenizer_that_no_chat_shows_fails_the_smoke_test(llama_folder, tmp_path, expected, monkeypatch):
    """llama.cpp's `bloom` cuts apostrophes otherwise where they follow one another or an emoji."""
    monkeypatch.setattr(gguf.GGUFWriter, "add_tokenizer_pre", lambda writer, pre: writer.add_string(PRE, "bloom"))
    write_gguf(llama_folder, tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=r"cuts 2 of 3\d\d texts of the corpus into other tokens"):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.0)


@pytest.mark.parametrize(
    ("token", "message"),
    [("<|user|>", "11 of 11 rendered chats"), ("<|pad|>", r"1 of 3\d\d texts of the corpus")],
)
def test_a_special_token_typed_as_a_word_fails_the_smoke_test(
    llama_folder, tmp_path, expected, monkeypatch, token, message
):
    """It would be cut into pieces, and printed; of names that it knows for ends llama.cpp corrects the type itself."""
    index = load_model(llama_folder).tokenizer.convert_tokens_to_ids(token)
    add = gguf.GGUFWriter.add_token_types
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_token_types",
        lambda writer, types: add(writer, [NORMAL if place == index else kind for place, kind in enumerate(types)]),
    )
    write_gguf(llama_folder, tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=f"cuts {message} into other tokens"):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.0)


def test_an_end_token_that_the_file_does_not_name_fails_the_smoke_test(llama_folder, dialogues, tmp_path, monkeypatch):
    """Under a name that llama.cpp does not take for an end by itself."""
    shutil.copytree(llama_folder, tmp_path / "model")
    for path in (tmp_path / "model").glob("*.j*"):
        path.write_text(path.read_text().replace("<|end|>", "<|fin|>"))
    expected = expected_answers(load_model(tmp_path / "model"), dialogues, num_prompts=2, max_new_tokens=40)
    write_gguf(tmp_path / "model", tmp_path / "right.gguf", file_type="f16")
    smoke_test(tmp_path / "right.gguf", expected, runtime="llama.cpp", min_same_text=1.0)
    add = gguf.GGUFWriter.add_eos_token_id
    monkeypatch.setattr(gguf.GGUFWriter, "add_eos_token_id", lambda writer, index: add(writer, index + 1))
    write_gguf(tmp_path / "model", tmp_path / "wrong.gguf", file_type="f16")
    with pytest.raises(ExportError, match=rf"llama\.cpp does not stop at token {expected.end_ids[0]}"):
        smoke_test(tmp_path / "wrong.gguf", expected, runtime="llama.cpp", min_same_text=0.0)


def test_a_bos_that_the_template_writes_is_not_added_again(llama_folder, dialogues, tmp_path, monkeypatch):
    """As in Llama 3: the tokenizer puts it before plain text, and the template before a chat."""
    shutil.copytree(llama_folder, tmp_path / "model")
    template, config, tokenizer = (
        tmp_path / "model" / name for name in ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json")
    )
    template.write_text("{{- bos_token -}}" + template.read_text())
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token": "<|endoftext|>"}))
    whole = json.loads(tokenizer.read_text())
    bos_id = next(token["id"] for token in whole["added_tokens"] if token["content"] == "<|endoftext|>")
    steps = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [bos_id], "tokens": ["<|endoftext|>"]}}
    whole["post_processor"] = {"type": "TemplateProcessing", "single": steps, "pair": steps, "special_tokens": known}
    tokenizer.write_text(json.dumps(whole))
    loaded = load_model(tmp_path / "model")
    assert loaded.tokenizer("x")["input_ids"][0] == bos_id
    expected = expected_answers(loaded, dialogues, num_prompts=2, max_new_tokens=40)
    assert [ids.count(bos_id) for ids in expected.token_ids] == [1, 1, 1]
    write_gguf(tmp_path / "model", tmp_path / "once.gguf", file_type="f16")
    smoke_test(tmp_path / "once.gguf", expected, runtime="llama.cpp", min_same_text=1.0)
    add = gguf.GGUFWriter.add_add_bos_token
    monkeypatch.setattr(gguf.GGUFWriter, "add_add_bos_token", lambda writer, value: add(writer, True))
    write_gguf(tmp_path / "model", tmp_path / "twice.gguf", file_type="f16")
    with pytest.raises(ExportError, match=re.escape(f"llama.cpp puts tokens [{bos_id}] around every text")):
        smoke_test(tmp_path / "twice.gguf", expected, runtime="llama.cpp", min_same_text=0.0)


def test_a_file_without_template_fails_the_smoke_test(llama_folder, tmp_path, expected, monkeypatch):
    """llama.cpp loads it and takes a template of its own."""
    monkeypatch.setattr(gguf.GGUFWriter, "add_chat_template", lambda writer, template: None)
    write_gguf(llama_folder, tmp_path / "model.gguf", file_type="f16")
    with pytest.raises(ExportError, match=re.escape("llama.cpp renders a chat as")):
        smoke_test(tmp_path / "model.gguf", expected, runtime="llama.cpp", min_same_text=0.0)


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
