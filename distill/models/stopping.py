"""Which tokens end an answer, and how a model's configuration says so."""

from typing import TYPE_CHECKING

from distill.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ANSWER = "answer"


def end_of_turn_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The special token that the chat template writes after an assistant's answer, `None` if it writes none.

    Raises:
        ModelError: the template cannot render one question and one answer.
    """
    import jinja2

    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise ModelError(
            "the chat template cannot render one question and one answer", why=str(error), fix="mend the template"
        ) from error
    suffix = text.rpartition(_ANSWER)[2]
    special = {int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    ids: list[int] = tokenizer.encode(suffix, add_special_tokens=False)
    return next((token for token in ids if token in special), None)


def end_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Every token that ends an answer: end of turn, the tokenizer's end, and what the model itself names."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    known = [end_of_turn_id(tokenizer), tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return tuple(dict.fromkeys(int(token) for token in known if token is not None))


def set_special_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Gives the tokenizer a pad token if it lacks one, and writes end and pad ids into the model's configurations.

    Raises:
        ModelError: nothing would end an answer.
    """
    ends = end_ids(model, tokenizer)
    if not ends:
        raise ModelError(
            "neither the chat template nor the tokenizer names a token that ends an answer",
            why="generation would only stop at its length limit",
            fix="set eos_token in tokenizer_config.json",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ends[0])
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = ends[0] if len(ends) == 1 else list(ends)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = list(ends)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
