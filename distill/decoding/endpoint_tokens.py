"""Which of our token ids a server means: servers name tokens by id where they can, else by their text."""

import functools

from distill.models.tokenizer import Tokenizer

_ID_PREFIX = "token_id:"
_SENTENCEPIECE_SPACE = "▁"


class TokenNames:
    """Translates a server's names of tokens.

    A name is `token_id:123` (vLLM with return_tokens_as_token_ids) or the token's text. Texts are no sure names:
    the halves of a character that UTF-8 splits all read alike.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def text_of(self, token_id: int) -> str:
        """The text that a server would show for one of our tokens."""
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        if piece is None:
            return f"{_ID_PREFIX}{token_id}"
        if token_id in self._tokenizer.added_tokens_decoder:
            return str(piece)
        if _SENTENCEPIECE_SPACE in piece:
            return str(piece).replace(_SENTENCEPIECE_SPACE, " ")
        return str(self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False))

    def is_name_of(self, name: str, token_id: int) -> bool:
        """Whether the server's `name` means our token."""
        return name == f"{_ID_PREFIX}{token_id}" or name == self.text_of(token_id)

    def id_of(self, name: str) -> int | None:
        """Our id of the server's `name`; None where no token, or more than one, has it."""
        number = name.removeprefix(_ID_PREFIX)
        if number != name and number.isdecimal():
            return int(number)
        ids = self._ids_by_text.get(name, [])
        return ids[0] if len(ids) == 1 else None

    @functools.cached_property
    def _ids_by_text(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for token_id in range(len(self._tokenizer)):
            ids.setdefault(self.text_of(token_id), []).append(token_id)
        return ids
