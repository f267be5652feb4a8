"""Byte-level BPE tokenizers: trained here, loaded from a folder, compared with one another."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import tokenizers
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

from distill.data.templates import END_OF_TURN, PAD, SPECIAL_TOKENS
from distill.errors import ModelError
from distill.models.chat_template import read_chat_template
from distill.models.quiet import quietly
from distill.models.source import adapter_base, locate, read_model_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

Tokenizer: TypeAlias = "PreTrainedTokenizerBase"

# How GPT-2 (Radford et al. 2019) and Qwen2 cut text before byte-pair merges; llama.cpp calls them `gpt-2` and `qwen2`.
GPT2_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NUM_BYTES = 256
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    chat_template: str,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    end_of_turn: str = END_OF_TURN,
    pad: str = PAD,
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
    tokenizer = tokenizers.Tokenizer(BPE())
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
        # No byte is unknown; but without a name for it, Qwen2's tokenizer class adds a token when it is loaded.
        unk_token=pad if architecture == "qwen2" else None,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = chat_template
    return wrapped


def _pieces(*patterns: str) -> pre_tokenizers.Sequence:
    """Cuts text at every match of each pattern in turn, then maps bytes to printable characters."""
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def load_tokenizer(
    folder_or_id: str | Path, *, revision: str | None = None, chat_template: Path | None = None
) -> Tokenizer:
    """Loads a model's tokenizer; adapters without one of their own have their base's.

    Args:
        folder_or_id: of the model.
        revision: of a hub id.
        chat_template: a jinja file in place of the tokenizer's own template.

    Raises:
        ModelError: there is no model, no tokenizer or no such template, or its files are damaged.
    """
    from transformers import AutoTokenizer

    source = locate(folder_or_id, revision=revision, with_weights=False)
    folder = source.folder
    arguments: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if source.kind == "gguf":
        folder, arguments = folder.parent, {**arguments, "gguf_file": folder.name}
    elif not any((folder / name).exists() for name in _TOKENIZER_FILES):
        if source.kind == "adapter":
            return load_tokenizer(adapter_base(source), chat_template=chat_template)
        raise ModelError(
            f"{folder} has no tokenizer",
            why=f"none of {', '.join(_TOKENIZER_FILES)} is there",
            fix="copy the tokenizer files of the model it was trained from into the folder",
        )
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        if path.exists():
            read_model_json(path)
    try:
        with quietly():
            tokenizer: Tokenizer = AutoTokenizer.from_pretrained(str(folder), **arguments)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the tokenizer in {folder} cannot be read", why=why, fix="copy the model again") from error
    if chat_template is not None:
        tokenizer.chat_template = read_chat_template(chat_template)
    return tokenizer
