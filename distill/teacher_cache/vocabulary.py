"""The fingerprint of what token ids mean."""

from typing import TYPE_CHECKING

from distill.files import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The hex sha256 over every token with its id; how text is cut does not enter, sequence ids cover that."""
    return fingerprint(sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0])))
