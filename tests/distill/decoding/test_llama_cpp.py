from pathlib import Path

import pytest

from distill.data import Message, render_prompt
from distill.decoding import LlamaCppGenerator, SamplingSettings, TransformersGenerator
from distill.errors import ModelError
from distill.export.gguf import write_gguf

GREEDY = SamplingSettings(temperature=0, max_new_tokens=8)
SAMPLED = SamplingSettings(temperature=1.0, top_p=0.9, max_new_tokens=8)


@pytest.fixture(scope="module")
def gguf_file(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(folder, path, file_type="f32")
    return path


@pytest.fixture(scope="module")
def llama(gguf_file):
    with LlamaCppGenerator(gguf_file, num_threads=1, max_length_tokens=256) as generator:
        yield generator


def test_chats_are_rendered_and_tokenized_as_in_transformers(llama, loaded, prompts):
    for prompt in prompts:
        assert llama.tokenize(llama.render(prompt)) == render_prompt(loaded.tokenizer, prompt)


def test_special_tokens_can_be_read_as_text(llama, loaded):
    assert llama.tokenize("<|end|>") == [loaded.tokenizer.eos_token_id]
    assert len(llama.tokenize("<|end|>", parse_special=False)) > 1


def test_many_texts_are_cut_in_one_request_as_they_are_one_by_one(llama):
    texts = ["Hi there", "", "<|end|>", "  two\n", "日本語"]
    assert llama.tokenize_all(texts) == [llama.tokenize(text) for text in texts]
    assert llama.tokenize_all([]) == []


def test_the_file_says_that_nothing_stands_around_a_text(llama):
    assert llama.ids_around_text() == []


def test_answers_end_at_the_end_token_only(llama, loaded):
    assert llama.stops_at(loaded.tokenizer.eos_token_id)
    assert not llama.stops_at(llama.tokenize("a")[0])


def test_greedy_answers_are_those_of_transformers(llama, loaded, prompts):
    """A last character that the length limit cut is shown as one or more of \ufffd, or held back."""
    expected = TransformersGenerator(loaded).generate(prompts, GREEDY, seed=0)
    answers = llama.generate(prompts, GREEDY, seed=0)
    texts, expected_texts = ([answer.text.rstrip("\ufffd") for answer in row] for row in (answers, expected))
    assert texts == expected_texts
    assert [answer.finish_reason for answer in answers] == [answer.finish_reason for answer in expected]
    assert [answer.num_tokens for answer in answers] == [answer.num_tokens for answer in expected]


def test_the_seed_decides(llama, prompts):
    assert llama.generate(prompts, SAMPLED, seed=1) == llama.generate(prompts, SAMPLED, seed=1)
    assert llama.generate(prompts, SAMPLED, seed=1) != llama.generate(prompts, SAMPLED, seed=2)


def test_a_prompt_longer_than_the_context_is_refused(llama):
    with pytest.raises(ModelError, match=r"refused a request to /v1/chat/completions(.|\n)*exceeds"):
        llama.generate([[Message("user", "word " * 300)]], GREEDY, seed=0)


def test_a_closed_generator_is_refused_and_closing_twice_is_fine(gguf_file):
    generator = LlamaCppGenerator(gguf_file, num_threads=1)
    generator.close()
    generator.close()
    with pytest.raises(ModelError, match="is closed in llama"):
        generator.tokenize("x")


def test_a_truncated_file_is_refused(gguf_file, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(gguf_file.read_bytes()[:20_000])
    with pytest.raises(ModelError, match=r"llama.cpp cannot load .*cut.gguf"):
        LlamaCppGenerator(tmp_path / "cut.gguf")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        LlamaCppGenerator(tmp_path / "none.gguf")


def test_llama_cpp_writes_nothing_to_the_screen(gguf_file, capfd, prompts):
    with LlamaCppGenerator(gguf_file, num_threads=1) as generator:
        generator.generate(prompts[:1], GREEDY, seed=0)
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
