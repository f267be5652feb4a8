"""Byte-level BPE tokenizers: trained here, loaded from a folder, compared with one another."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

from distill.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# How GPT-2 (Radford et al. 2019) and Qwen2 cut text before byte-pair merges; llama.cpp calls them `gpt-2` and `qwen2`.
GPT2_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NUM_BYTES = 256


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    chat_template: str,
    special_tokens: Sequence[str],
    end_of_turn: str,
    pad: str,
    architecture: Literal["llama", "qwen2"] = "llama",
) -> "PreTrainedTokenizerFast":
    """Trains a byte-level BPE tokenizer in which every ASCII digit is a token of its own.

    For qwen2 that is the pre-tokenizer's doing. For llama the tokenizer is *trained* on text cut at digits, so that
    no merge holds a digit, and *kept* with GPT-2's plain pre-tokenizer: the ids are the same, and they are also
    those of llama.cpp's pre-tokenizer `gpt-2`. Equal texts give an equal tokenizer.

    Args:
        texts: what to learn merges from.
        vocab_size: tokens in all, special ones included; fewer come out where the texts have nothing left to merge.
        chat_template: jinja source, saved with the tokenizer.
        special_tokens: never split and never produced by merges; `end_of_turn` and `pad` are among them.
        end_of_turn: the token after each message, the tokenizer's `eos_token`.
        pad: the token that fills short rows.
        architecture: of the model that will use it.

    Raises:
        ModelError: `vocab_size` has no room for all bytes and the special tokens.
    """
    from transformers import PreTrainedTokenizerFast

    if vocab_size < NUM_BYTES + len(special_tokens):
        raise ModelError(
            f"tokenizer_vocab_size is {vocab_size}",
            why=f"{NUM_BYTES} bytes and {len(special_tokens)} special tokens need a place",
            fix=f"tokenizer_vocab_size={NUM_BYTES + len(special_tokens) + 256} or more",
        )
    tokenizer = Tokenizer(BPE())
    if architecture == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pieces(QWEN2_PIECES if architecture == "qwen2" else GPT2_PIECES, "[0-9]")
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = (
        _pieces(QWEN2_PIECES) if architecture == "qwen2" else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end_of_turn,
        pad_token=pad,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = chat_template
    return wrapped


def _pieces(*patterns: str) -> pre_tokenizers.Sequence:
    """Cuts text at every match of each pattern in turn, then maps bytes to printable characters."""
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def load_tokenizer(folder: str | Path) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer of a model folder.

    Raises:
        ModelError: there is no tokenizer, or its files are damaged.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(
            f"{folder} has no tokenizer",
            why="none of tokenizer.json, tokenizer.model, vocab.json is there",
            fix="copy the tokenizer files of the model it was trained from into the folder",
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(f"the tokenizer in {folder} cannot be read", why=_first_line(error)) from error
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
