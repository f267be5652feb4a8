from pathlib import Path

import pytest

from distill.data import Conversation, Message, end_of_turn_id, render_prompt, tokenize_conversation
from distill.errors import ModelError
from distill.models import train_tokenizer
from distill.models.chat_template import read_chat_template

VICUNA = Path(__file__).parents[3] / "recipes" / "templates" / "vicuna.jinja"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
USER, ANSWER, MORE = Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "More?")


@pytest.fixture
def vicuna(texts):
    """A byte-level tokenizer with Vicuna's two named tokens and its template."""
    tokenizer = train_tokenizer(
        texts,
        vocab_size=300,
        chat_template=read_chat_template(VICUNA),
        special_tokens=("<s>", "</s>", "<pad>"),
        end_of_turn="</s>",
        pad="<pad>",
    )
    tokenizer.bos_token = "<s>"
    return tokenizer


def test_vicunas_prompt_is_one_line_that_ends_where_the_assistant_writes(vicuna):
    """Version 1.1: a space after the user's turn, </s> after the assistant's, and no space before its answer."""
    text = vicuna.decode(render_prompt(vicuna, (USER, ANSWER, MORE)))
    assert text == f"<s>{SYSTEM} USER: Hi ASSISTANT: Hello.</s>USER: More? ASSISTANT:"


def test_vicunas_system_text_gives_way_to_the_dialogues_own(vicuna):
    text = vicuna.decode(render_prompt(vicuna, (Message("system", "Be brief."), USER)))
    assert text == "<s>Be brief. USER: Hi ASSISTANT:"


def test_vicunas_answers_are_learned_with_their_end(vicuna):
    tokenized = tokenize_conversation(vicuna, Conversation("c", (USER, ANSWER)), max_length_tokens=999)
    marked = zip(tokenized.input_ids, tokenized.completion_mask, strict=True)
    assert vicuna.decode([token for token, is_learned in marked if is_learned]) == " Hello.</s>"
    assert end_of_turn_id(vicuna) == vicuna.eos_token_id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{% for %}", r"is no jinja\nwhy: line 1"),
        (b" \n", "is empty"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "own.jinja").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_chat_template(tmp_path / "own.jinja")


def test_a_missing_template_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"chat template .*none\.jinja cannot be read"):
        read_chat_template(tmp_path / "none.jinja")


def test_what_transformers_knows_beside_jinja_is_accepted(tmp_path: Path):
    content = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    (tmp_path / "own.jinja").write_text(content)
    assert read_chat_template(tmp_path / "own.jinja") == content
