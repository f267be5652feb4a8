"""Which tokens end an answer, and how a model's configuration says so."""

from typing import TYPE_CHECKING

from distill.data.templates import end_of_turn_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def end_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Every token that ends an answer: end of turn, the tokenizer's end, and what the model itself names.

    Raises:
        ModelError: the chat template ends an answer with no special token.
    """
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    known = [end_of_turn_id(tokenizer), tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return tuple(dict.fromkeys(int(token) for token in known if token is not None))


def set_special_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Gives the tokenizer a pad token if it lacks one, and writes end and pad ids into the model's configurations.

    Raises:
        ModelError: the chat template ends an answer with no special token.
    """
    ends = end_ids(model, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = str(tokenizer.convert_ids_to_tokens(ends[0]))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = ends[0] if len(ends) == 1 else list(ends)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = list(ends)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
