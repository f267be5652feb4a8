"""Whether a runtime reads what the model learnt: nothing put around a chat, and text cut into the same tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from distill.errors import ExportError
from distill.export.parity_corpus import parity_corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reader(Protocol):
    """A runtime with an artefact's tokenizer."""

    def tokenize_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens recognised and none added."""

    def ids_around_text(self) -> list[int]:
        """What the runtime puts before and after every text by itself."""


@dataclass(frozen=True)
class Corpus:
    """Texts and the model's ids of them.

    `normalized` is each text as the model's tokenizer changes it before it cuts: Qwen2's puts accents and letters
    together (NFC), which llama.cpp leaves to who calls it.
    """

    texts: tuple[str, ...]
    normalized: tuple[str, ...]
    token_ids: list[list[int]]


def corpus_of(tokenizer: "PreTrainedTokenizerBase") -> Corpus:
    """The parity corpus with every added token of `tokenizer`, cut by it."""
    texts = parity_corpus([str(token) for token in tokenizer.added_tokens_decoder.values()])
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer = None if backend is None else backend.normalizer
    normalized = texts if normalizer is None else tuple(str(normalizer.normalize_str(text)) for text in texts)
    return Corpus(texts, normalized, token_ids_of(tokenizer, texts))


def token_ids_of(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, special tokens recognised and none added."""
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def require_nothing_around_chats(reader: Reader, *, runtime: str) -> None:
    """Refuses an artefact whose chats would be read with tokens that their template did not write.

    Raises:
        ExportError: the runtime adds tokens, such as a second bos.
    """
    ids = reader.ids_around_text()
    if ids:
        raise ExportError(
            f"{runtime} puts tokens {ids} around every text",
            why="the chat template writes all that a chat has: the model would read a bos twice, or one it never saw",
            fix="write the file with add_bos_token and add_eos_token false",
        )


def require_same_chats(
    reader: Reader, texts: Sequence[str], token_ids: Sequence[Sequence[int]], *, runtime: str
) -> None:
    """Refuses an artefact that cuts a rendered chat otherwise.

    Raises:
        ExportError: says how many, and shows the first.
    """
    different = _different(reader.tokenize_all(texts), token_ids)
    if different:
        raise ExportError(
            f"{runtime} cuts {len(different)} of {len(texts)} rendered chats into other tokens",
            why=f"the model would read what it never saw; the first is {texts[different[0]]!r:.120}",
            fix="check the tokenizer's pre-tokenizer and special tokens",
        )


def require_same_corpus(reader: Reader, corpus: Corpus, *, runtime: str) -> int:
    """How many texts of the corpus are cut alike; the others are, once they are normalised as the model's are.

    Raises:
        ExportError: one is not even then.
    """
    different = _different(reader.tokenize_all(corpus.texts), corpus.token_ids)
    normalized = [corpus.normalized[index] for index in different]
    still = _different(reader.tokenize_all(normalized), [corpus.token_ids[index] for index in different])
    if still:
        raise ExportError(
            f"{runtime} cuts {len(still)} of {len(corpus.texts)} texts of the corpus into other tokens",
            why=f"the model would read what it never saw; the first is {corpus.texts[different[still[0]]]!r:.120}",
            fix="check the tokenizer's pre-tokenizer and special tokens",
        )
    return len(corpus.texts) - len(different)


def _different(actual: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> list[int]:
    pairs = zip(actual, expected, strict=True)
    return [index for index, (theirs, ours) in enumerate(pairs) if list(theirs) != list(ours)]
