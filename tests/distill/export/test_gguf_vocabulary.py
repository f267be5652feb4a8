import json
import re

import pytest

from distill.errors import ExportError
from distill.export.gguf_vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED, read_vocabulary

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def write(folder, *, tokenizer=None, config=None, generation=None, template="{{ messages }}"):
    """Five tokens: a, b, ab, the special <|end|> and the added <note>."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "byte_fallback": False}
    added = [
        {"id": 3, "content": "<|end|>", "special": True},
        {"id": 4, "content": "<note>", "special": False},
    ]
    whole = {"model": model, "added_tokens": added, "pre_tokenizer": BYTE_LEVEL, **(tokenizer or {})}
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", **(config or {})}))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def test_tokens_stand_in_id_order_with_their_types_and_padding(tmp_path):
    vocabulary = read_vocabulary(write(tmp_path), vocab_size=7)
    assert vocabulary.tokens == ("a", "b", "ab", "<|end|>", "<note>", "[PAD5]", "[PAD6]")
    assert vocabulary.token_types == (NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED, UNUSED, UNUSED)
    assert vocabulary.merges == ("a b",)
    assert vocabulary.eos_id == 3
    assert (vocabulary.eot_id, vocabulary.eom_id, vocabulary.bos_id, vocabulary.pad_id) == (None,) * 4


def test_merges_may_be_written_as_text(tmp_path):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    assert read_vocabulary(write(tmp_path, tokenizer={"model": model}), vocab_size=5).merges == ("a b",)


@pytest.mark.parametrize(
    ("steps", "name"),
    [(BYTE_LEVEL, "gpt-2"), ({"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}, "smollm")],
)
def test_the_pre_tokenizer_is_found_by_what_it_does(tmp_path, steps, name):
    assert read_vocabulary(write(tmp_path, tokenizer={"pre_tokenizer": steps}), vocab_size=5).pre == name


def test_end_tokens_of_the_generation_config_follow_the_tokenizers(tmp_path):
    vocabulary = read_vocabulary(write(tmp_path, generation={"eos_token_id": [3, 2, 0]}), vocab_size=5)
    assert (vocabulary.eos_id, vocabulary.eot_id, vocabulary.eom_id) == (3, 2, 0)


def test_special_ids_may_be_written_as_objects(tmp_path):
    config = {"bos_token": {"content": "a"}, "pad_token": "b"}
    vocabulary = read_vocabulary(write(tmp_path, config=config), vocab_size=5)
    assert (vocabulary.bos_id, vocabulary.pad_id) == (0, 1)


def test_generation_markers_do_not_reach_the_runtime(tmp_path):
    template = "{%- for m in messages -%}{%- generation -%}{{ m }}{%- endgeneration -%}{%- endfor -%}"
    vocabulary = read_vocabulary(write(tmp_path, template=template), vocab_size=5)
    assert "generation" not in vocabulary.chat_template
    assert "{{ m }}" in vocabulary.chat_template


def test_the_template_may_stand_in_the_tokenizer_config(tmp_path):
    folder = write(tmp_path, template=None, config={"chat_template": "{{ inline }}"})
    assert read_vocabulary(folder, vocab_size=5).chat_template == "{{ inline }}"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"template": None}, "has no chat template"),
        ({"tokenizer": {"pre_tokenizer": {"type": "Whitespace"}}}, 'pre-tokenizer {"type": "Whitespace"}'),
        ({"tokenizer": {"pre_tokenizer": None}}, "the pre-tokenizer none"),
        ({"tokenizer": {"pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}}}, "pre-tokenizer"),
        ({"tokenizer": {"normalizer": {"type": "Lowercase"}}}, "has the normalizer"),
        ({"tokenizer": {"model": {"type": "Unigram"}}}, "holds a Unigram model"),
        ({"tokenizer": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}}, "has no merges"),
        ({"config": {"eos_token": None}}, "names no eos_token"),
        ({"config": {"eos_token": "<gone>"}}, "eos_token is '<gone>'"),
        ({"generation": {"eos_token_id": [0, 1, 2, 3]}}, "4 end tokens"),
    ],
)
def test_what_llama_cpp_cannot_follow_is_refused(tmp_path, files, message):
    with pytest.raises(ExportError, match=re.escape(message)):
        read_vocabulary(write(tmp_path, **files), vocab_size=5)


def test_ignored_merges_must_be_what_the_runtime_does(tmp_path):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "ignore_merges": True}
    with pytest.raises(ExportError, match="ignore_merges is True"):
        read_vocabulary(write(tmp_path, tokenizer={"model": model}), vocab_size=5)


def test_a_token_without_a_row_in_the_embedding_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"token '<note>' has id 4, config\.json has vocab_size 4"):
        read_vocabulary(write(tmp_path), vocab_size=4)


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"tokenizer\.json does not exist"):
        read_vocabulary(tmp_path, vocab_size=4)
