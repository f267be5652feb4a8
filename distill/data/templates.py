"""Chat templates: messages to token ids, and which of them the student learns.

The tokenizer's own template is always used. What counts is what the assistant wrote and the token that ends its
turn; what a template prints after that token (ChatML's newline) does not. Templates with `{% generation %}` markers
say themselves what the assistant wrote; for others the text up to each answer is rendered and must be a prefix of
the whole.

Truncation keeps the front: a sequence is cut at `max_length_tokens` on its right, so that an answer loses its end
and never its question. Where no token of an answer is left, the result is None, and the caller counts it.
"""

import functools
import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from distill.data.records import Conversation, Message, PreferencePair
from distill.data.sequences import TokenizedConversation, TokenizedPair, TokenizedSequence
from distill.errors import DataError, ModelError
from distill.files import fingerprint

log = logging.getLogger(__name__)

END_OF_TURN = "<|end|>"
PAD = "<|pad|>"
SPECIAL_TOKENS: tuple[str, ...] = ("<|system|>", "<|user|>", "<|assistant|>", END_OF_TURN, PAD)

# One piece of text between two special tokens and no white space around them: token ids do not depend on neighbours.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

_MARKER = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


@runtime_checkable
class ChatTokenizer(Protocol):
    """What this room needs of a transformers tokenizer."""

    @property
    def name_or_path(self) -> str:
        """Where the tokenizer came from."""

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the tokens that are no text."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Tokens beside the vocabulary's own; `special` says of each whether it is no text."""

    def get_chat_template(self) -> str:
        """The Jinja source; ValueError where there is none."""

    def apply_chat_template(self, conversation: list[dict[str, str]]) -> Any:
        """Renders messages to text or token ids."""

    def __call__(self, text: str) -> Any:
        """Tokenizes text."""

    def __hash__(self) -> int:
        """Any hash will do."""


def without_generation_markers(template: str) -> str:
    """The template without `{% generation %}` tags, for runtimes that do not know them; it renders the same text."""
    return _MARKER.sub(lambda tag: f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}", template)


def chat_template(tokenizer: ChatTokenizer) -> str:
    """The tokenizer's chat template.

    Raises:
        ModelError: it has none.
    """
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'the model'} has no chat template",
            why="prompts and answers could only be guessed at",
            fix="use the chat version of the model, or add chat_template.jinja to its folder",
        ) from error


def has_generation_markers(tokenizer: ChatTokenizer) -> bool:
    """Whether the chat template marks what the assistant wrote."""
    return _MARKER.search(chat_template(tokenizer)) is not None


def template_hash(tokenizer: ChatTokenizer) -> str:
    """The hex sha256 over the chat template and the special tokens that it may print."""
    tokens = {name: getattr(tokenizer, name, None) for name in ("bos_token", "eos_token", "pad_token")}
    return fingerprint({"template": chat_template(tokenizer), **tokens})


def render_prompt(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids of `messages`, ending where the assistant is to write."""
    chat_template(tokenizer)
    return _ids(tokenizer, _text(tokenizer, messages, add_generation_prompt=True))


def render_dialogue(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids of a whole dialogue as the template prints it; nothing is added, so that no BOS stands twice."""
    chat_template(tokenizer)
    return _ids(tokenizer, _text(tokenizer, messages, add_generation_prompt=False))


def end_of_turn_id(tokenizer: ChatTokenizer) -> int:
    """The special token with which the chat template ends an assistant's turn.

    Raises:
        ModelError: the template ends it with text only, so that a student could not learn to stop.
    """
    return _end_of_turn_id(tokenizer, chat_template(tokenizer))


def tokenize_conversation(
    tokenizer: ChatTokenizer, conversation: Conversation, *, max_length_tokens: int
) -> TokenizedConversation | None:
    """A dialogue's token ids and which of them are the assistant's, the end-of-turn token included.

    Returns:
        None where nothing of the assistant's is left after truncation.

    Raises:
        DataError: without generation markers, the text up to an answer is no prefix of the whole.
    """
    template = chat_template(tokenizer)
    if not any(message.role == "assistant" for message in conversation.messages):
        return None
    if _MARKER.search(template):
        ids, mask = _marked(tokenizer, conversation.messages)
        mask = _ending_at(ids, mask, end_of_turn=_end_of_turn_id(tokenizer, template))
    else:
        _say_prefix_rendering(tokenizer.name_or_path, template)
        ids, mask = _by_prefixes(tokenizer, conversation.messages, where=f"conversation {conversation.id}")
    ids, mask = ids[:max_length_tokens], mask[:max_length_tokens]
    if not any(mask):
        return None
    return TokenizedConversation(conversation.id, tuple(ids), tuple(mask))


def tokenize_pair(tokenizer: ChatTokenizer, pair: PreferencePair, *, max_length_tokens: int) -> TokenizedPair | None:
    """Both completions after one prompt; None where truncation leaves nothing of either."""
    chosen = tokenize_completion(tokenizer, pair.prompt, pair.chosen, max_length_tokens=max_length_tokens)
    rejected = tokenize_completion(tokenizer, pair.prompt, pair.rejected, max_length_tokens=max_length_tokens)
    if chosen is None or rejected is None:
        return None
    return TokenizedPair(pair.id, chosen, rejected)


def tokenize_completion(
    tokenizer: ChatTokenizer, prompt: Sequence[Message], completion: str, *, max_length_tokens: int
) -> TokenizedSequence | None:
    """A prompt and its answer; the answer ends in the end-of-turn token unless truncation cut it off.

    Returns:
        None where the answer is empty, or nothing of it is left after truncation.

    Raises:
        DataError: the rendered prompt is no prefix of the rendered dialogue.
    """
    if not completion.strip():
        return None
    whole = (*prompt, Message("assistant", completion))
    ids, mask = _by_prefixes(tokenizer, whole, only_last=True, where=f"answer {completion!r:.40}")
    length = mask.index(True) if True in mask else len(ids)
    kept = ids[length : length + sum(mask)][: max(max_length_tokens - length, 0)]
    return TokenizedSequence(tuple(ids[:length]), tuple(kept)) if kept else None


def _text(tokenizer: ChatTokenizer, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    chat: Any = tokenizer.apply_chat_template
    text = chat([m.to_json() for m in messages], tokenize=False, add_generation_prompt=add_generation_prompt)
    assert isinstance(text, str)
    return text


def _ids(tokenizer: ChatTokenizer, text: str) -> list[int]:
    call: Any = tokenizer
    return list(call(text, add_special_tokens=False)["input_ids"])


def _marked(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    """Ids and the template's own marks."""
    chat: Any = tokenizer.apply_chat_template
    encoded = chat([m.to_json() for m in messages], tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    return list(encoded["input_ids"]), [bool(flag) for flag in encoded["assistant_masks"]]


def _ending_at(ids: list[int], mask: list[bool], *, end_of_turn: int) -> list[bool]:
    """Marks that end with each turn's end-of-turn token, wherever the template put its markers."""
    result = list(mask)
    start = None
    for position in range(len(mask) + 1):
        inside = position < len(mask) and mask[position]
        if inside and start is None:
            start = position
        if not inside and start is not None:
            ends = [i for i in range(start, position) if ids[i] == end_of_turn]
            if ends:
                result[ends[-1] + 1 : position] = [False] * (position - ends[-1] - 1)
            elif position < len(ids) and ids[position] == end_of_turn:
                result[position] = True
            start = None
    return result


def _by_prefixes(
    tokenizer: ChatTokenizer, messages: Sequence[Message], *, where: str, only_last: bool = False
) -> tuple[list[int], list[bool]]:
    """Ids and marks from rendering the dialogue up to each answer, with and without it."""
    whole = _text(tokenizer, messages, add_generation_prompt=False)
    answers = [position for position, message in enumerate(messages) if message.role == "assistant"]
    borders = [0]
    for position in answers[-1:] if only_last else answers:
        before = _text(tokenizer, messages[:position], add_generation_prompt=True)
        after = _text(tokenizer, messages[: position + 1], add_generation_prompt=False)
        if not after.startswith(before) or not whole.startswith(after):
            raise DataError(
                f"{where}: the chat template of {tokenizer.name_or_path or 'the tokenizer'} renders the dialogue "
                f"differently up to messages[{position}] and as a whole",
                why="the text up to an answer is no prefix of the whole, so the answer's tokens cannot be told apart",
                fix="add {% generation %} markers to the template, or use one that does not rewrite earlier turns",
            )
        borders += [len(before), len(after)]
    pieces = [whole[start:stop] for start, stop in zip(borders, [*borders[1:], len(whole)], strict=True)]
    return _joined(tokenizer, whole, pieces)


def _joined(tokenizer: ChatTokenizer, whole: str, pieces: Sequence[str]) -> tuple[list[int], list[bool]]:
    """Ids of `pieces` (by turns not the assistant's and the assistant's), marked up to each end-of-turn token.

    The whole text is tokenized at once where its tokens respect the borders of the pieces. Where a merge crosses a
    border, pieces are tokenized one by one: so does generation, which never sees prompt and answer as one text.
    """
    ids = _ids(tokenizer, whole)
    prefixes = [_ids(tokenizer, "".join(pieces[: count + 1])) for count in range(len(pieces) - 1)] + [ids]
    if all(ids[: len(prefix)] == prefix for prefix in prefixes):
        borders = [0, *(len(prefix) for prefix in prefixes)]
        parts = [ids[start:stop] for start, stop in itertools.pairwise(borders)]
    else:
        parts = [_ids(tokenizer, piece) for piece in pieces]
    return _marked_parts(parts, end_of_turn=end_of_turn_id(tokenizer))


def _marked_parts(parts: Sequence[list[int]], *, end_of_turn: int) -> tuple[list[int], list[bool]]:
    """Joins parts, of which every second one is the assistant's."""
    ids: list[int] = []
    mask: list[bool] = []
    for number, part in enumerate(parts):
        ids += part
        mask += _ending_at(part, [number % 2 == 1] * len(part), end_of_turn=end_of_turn)
    return ids, mask


@functools.lru_cache(maxsize=16)
def _end_of_turn_id(tokenizer: ChatTokenizer, template: str) -> int:
    answer = "yes"
    rendered = _text(tokenizer, [Message("user", "no"), Message("assistant", answer)], add_generation_prompt=False)
    tail = rendered[rendered.rindex(answer) + len(answer) :]
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids)
    for token in _ids(tokenizer, tail):
        if token in special:
            return token
    raise ModelError(
        f"the chat template of {tokenizer.name_or_path or 'the tokenizer'} ends an answer with {tail!r}",
        why="no special token ends the assistant's turn, so a student could not learn to stop",
        fix="print the tokenizer's eos_token after each assistant message in the template",
    )


@functools.lru_cache(maxsize=16)
def _say_prefix_rendering(name: str, template: str) -> None:
    """Logs once for each template that its marks come from prefix rendering."""
    log.warning(
        "the chat template of %s has no {%% generation %%} markers: answers are found by rendering prefixes",
        name or "the tokenizer",
    )
