import logging

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import AddedToken

from distill.data.records import Conversation, Message, PreferencePair
from distill.data.templates import (
    CHAT_TEMPLATE,
    END_OF_TURN,
    SPECIAL_TOKENS,
    ChatTokenizer,
    end_of_turn_id,
    has_generation_markers,
    render_dialogue,
    render_prompt,
    template_hash,
    tokenize_completion,
    tokenize_conversation,
    tokenize_pair,
    without_generation_markers,
)
from distill.errors import DataError, ModelError
from tests.strategies import messages

any_tokenizer = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
SYSTEM, USER, ANSWER = Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello")
DIALOGUE = (SYSTEM, USER, ANSWER, Message("user", "More?"), Message("assistant", "No."))
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHATML_MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LOOSELY_MARKED = CHATML_MARKED.replace("{% endgeneration %}", "<|end|>\n{% endgeneration %}").replace(
    "{% endif %}<|end|>\n{% endfor %}", "<|end|>\n{% endif %}{% endfor %}"
)
FORGETFUL = (
    "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NEVER_ENDING = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
MARRIED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def learned(tokenizer, tokenized):
    """What the marked tokens say, turn by turn."""
    turns, current = [], []
    for token, is_learned in zip(tokenized.input_ids, tokenized.completion_mask, strict=True):
        if is_learned:
            current.append(token)
        elif current:
            turns, current = [*turns, current], []
    return [tokenizer.decode(turn) for turn in ([*turns, current] if current else turns)]


def test_own_template_renders_turns_without_white_space(tokenizer):
    text = tokenizer.apply_chat_template([m.to_json() for m in DIALOGUE], tokenize=False)
    assert text == (
        "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>Hello<|end|><|user|>More?<|end|><|assistant|>No.<|end|>"
    )


def test_prompt_ends_where_the_assistant_is_to_write(tokenizer):
    ids = render_prompt(tokenizer, DIALOGUE[:2])
    assert tokenizer.decode(ids) == "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>"
    assert all(token in tokenizer.all_special_tokens for token in SPECIAL_TOKENS)


def test_special_tokens_are_single_ids(tokenizer):
    assert [len(tokenizer(token)["input_ids"]) for token in SPECIAL_TOKENS] == [1] * len(SPECIAL_TOKENS)


@any_tokenizer
@given(dialogue=messages())
def test_markers_and_prefixes_learn_the_same(make_tokenizer, dialogue):
    marked, plain = make_tokenizer(CHAT_TEMPLATE), make_tokenizer(without_generation_markers(CHAT_TEMPLATE))
    conversation = Conversation("c", dialogue)
    tokenized = tokenize_conversation(marked, conversation, max_length_tokens=4096)
    assert tokenized == tokenize_conversation(plain, conversation, max_length_tokens=4096)
    assert learned(marked, tokenized) == [m.content + END_OF_TURN for m in dialogue if m.role == "assistant"]


@any_tokenizer
@given(dialogue=messages(max_turns=2))
def test_prompt_and_completion_are_the_conversation(tokenizer, dialogue):
    """The last turn of a conversation has the tokens that generation would have to write after its prompt."""
    sequence = tokenize_completion(tokenizer, dialogue[:-1], dialogue[-1].content, max_length_tokens=4096)
    whole = tokenize_conversation(tokenizer, Conversation("c", dialogue), max_length_tokens=4096)
    assert sequence.prompt_ids == tuple(render_prompt(tokenizer, dialogue[:-1]))
    assert sequence.prompt_ids + sequence.completion_ids == whole.input_ids
    assert sequence.completion_ids[-1] == end_of_turn_id(tokenizer)


@pytest.mark.parametrize("template", [CHATML, CHATML_MARKED, LOOSELY_MARKED])
def test_a_turn_is_learned_up_to_its_end_token_wherever_the_markers_stand(make_tokenizer, template):
    tokenizer = make_tokenizer(template)
    tokenized = tokenize_conversation(tokenizer, Conversation("c", DIALOGUE), max_length_tokens=4096)
    assert learned(tokenizer, tokenized) == ["Hello<|end|>", "No.<|end|>"]
    assert tokenizer.decode(tokenized.input_ids).endswith("<|assistant|>\nNo.<|end|>\n")


def test_completion_drops_what_the_template_prints_after_the_end_token(make_tokenizer):
    tokenizer = make_tokenizer(CHATML)
    sequence = tokenize_completion(tokenizer, (USER,), "Hello", max_length_tokens=99)
    assert tokenizer.decode(sequence.completion_ids) == "Hello<|end|>"


def test_a_merge_across_the_border_is_cut_as_generation_would(make_tokenizer):
    """After 'assistant: ' the space would merge into ' Hello', which no model is ever asked to write there."""
    tokenizer = make_tokenizer(MARRIED)
    sequence = tokenize_completion(tokenizer, (USER,), "how are you", max_length_tokens=99)
    assert sequence.prompt_ids == tuple(render_prompt(tokenizer, (USER,)))
    assert tokenizer.decode(sequence.completion_ids) == "how are you<|end|>"
    conversation = Conversation("c", (USER, Message("assistant", "how are you")))
    tokenized = tokenize_conversation(tokenizer, conversation, max_length_tokens=99)
    assert tokenized.input_ids == sequence.prompt_ids + sequence.completion_ids


def test_pair_shares_its_prompt_and_ends_both_turns(tokenizer):
    pair = tokenize_pair(tokenizer, PreferencePair("p", (USER,), "Hello", "What?"), max_length_tokens=99)
    assert pair.chosen.prompt_ids == pair.rejected.prompt_ids == tuple(render_prompt(tokenizer, (USER,)))
    assert tokenizer.decode(pair.chosen.completion_ids) == "Hello<|end|>"
    assert tokenizer.decode(pair.rejected.completion_ids) == "What?<|end|>"


def test_truncation_takes_the_end_of_the_answer(tokenizer):
    whole = tokenize_completion(tokenizer, (USER,), "Hello, how are you doing?", max_length_tokens=99)
    length = len(whole.prompt_ids)
    cut = tokenize_completion(tokenizer, (USER,), "Hello, how are you doing?", max_length_tokens=length + 2)
    assert (cut.prompt_ids, cut.completion_ids) == (whole.prompt_ids, whole.completion_ids[:2])


def test_an_example_with_nothing_left_to_learn_is_refused(tokenizer):
    length = len(render_prompt(tokenizer, (USER,)))
    assert tokenize_completion(tokenizer, (USER,), "Hello", max_length_tokens=length) is None
    assert tokenize_completion(tokenizer, (USER,), "Hello", max_length_tokens=1) is None
    assert tokenize_completion(tokenizer, (USER,), "  ", max_length_tokens=99) is None
    assert tokenize_pair(tokenizer, PreferencePair("p", (USER,), "Hello", ""), max_length_tokens=99) is None
    conversation = Conversation("c", (USER, ANSWER))
    assert tokenize_conversation(tokenizer, conversation, max_length_tokens=length) is None
    assert tokenize_conversation(tokenizer, conversation, max_length_tokens=length + 1) is not None
    assert tokenize_conversation(tokenizer, conversation.without_answers(), max_length_tokens=99) is None


def test_prefix_rendering_is_said_once(make_tokenizer, caplog):
    tokenizer = make_tokenizer("{# said once #}" + CHATML)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            tokenize_conversation(tokenizer, Conversation("c", DIALOGUE), max_length_tokens=99)
    said = [record.getMessage() for record in caplog.records if "prefixes" in record.getMessage()]
    assert said == [
        "the chat template of the tokenizer has no {% generation %} markers: answers are found by rendering prefixes"
    ]


def test_a_template_that_rewrites_history_is_refused(make_tokenizer):
    with pytest.raises(DataError, match=r"^conversation c: the chat template .* up to messages\[2\] and as a whole"):
        tokenize_conversation(make_tokenizer(FORGETFUL), Conversation("c", DIALOGUE), max_length_tokens=99)


def test_a_template_that_rewrites_history_still_renders_single_answers(make_tokenizer):
    tokenizer = make_tokenizer(FORGETFUL)
    sequence = tokenize_completion(tokenizer, DIALOGUE[:-1], "No.", max_length_tokens=99)
    assert tokenizer.decode(sequence.completion_ids) == "No.<|end|>"


def test_a_template_that_never_ends_a_turn_is_refused(make_tokenizer):
    with pytest.raises(ModelError, match="no special token ends the assistant's turn"):
        end_of_turn_id(make_tokenizer(NEVER_ENDING))


def test_an_end_token_that_is_only_added_as_special_ends_a_turn(make_tokenizer):
    """Neither eos nor any other named token, as in chat models whose eos ends texts and not turns."""
    tokenizer = make_tokenizer(CHATML.replace("<|end|>", "<|done|>"))
    tokenizer.add_tokens([AddedToken("<|done|>", special=True, normalized=False)])
    (done,) = tokenizer("<|done|>")["input_ids"]
    assert done not in tokenizer.all_special_ids
    assert end_of_turn_id(tokenizer) == done


def test_an_added_token_that_is_text_ends_no_turn(make_tokenizer):
    tokenizer = make_tokenizer(CHATML.replace("<|end|>", "<|done|>"))
    tokenizer.add_tokens([AddedToken("<|done|>", special=False, normalized=False)])
    with pytest.raises(ModelError, match="no special token ends the assistant's turn"):
        end_of_turn_id(tokenizer)


def test_a_tokenizer_without_template_is_refused(make_tokenizer):
    with pytest.raises(ModelError, match="has no chat template"):
        render_prompt(make_tokenizer(None), (USER,))
    with pytest.raises(ModelError, match="has no chat template"):
        template_hash(make_tokenizer(None))


def test_template_hash_follows_template_and_special_tokens(make_tokenizer):
    own, other = make_tokenizer(CHAT_TEMPLATE), make_tokenizer(CHATML)
    assert template_hash(own) == template_hash(make_tokenizer(CHAT_TEMPLATE)) != template_hash(other)
    own.pad_token = "<s>"
    assert template_hash(own) != template_hash(make_tokenizer(CHAT_TEMPLATE))


def test_markers_are_found_and_taken_out(make_tokenizer):
    assert has_generation_markers(make_tokenizer(CHAT_TEMPLATE))
    assert not has_generation_markers(make_tokenizer(without_generation_markers(CHAT_TEMPLATE)))


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML_MARKED, LOOSELY_MARKED])
@pytest.mark.parametrize("is_prompt", [False, True])
def test_without_markers_a_plain_jinja_renders_the_same_text(make_tokenizer, template, is_prompt):
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(without_generation_markers(template))
    rows = [m.to_json() for m in DIALOGUE]
    expected = make_tokenizer(template).apply_chat_template(rows, tokenize=False, add_generation_prompt=is_prompt)
    assert plain.render(messages=rows, add_generation_prompt=is_prompt) == expected


def test_transformers_tokenizers_fit_the_protocol(tokenizer):
    assert isinstance(tokenizer, ChatTokenizer)


def test_a_whole_dialogue_is_what_the_template_prints_and_no_more(tokenizer):
    expected = tokenizer.apply_chat_template([m.to_json() for m in DIALOGUE], tokenize=True, return_dict=False)
    assert render_dialogue(tokenizer, DIALOGUE) == list(expected)
