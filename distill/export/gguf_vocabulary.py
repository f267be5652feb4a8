"""A byte-level BPE tokenizer as llama.cpp wants it: tokens, types, merges, special ids, pre-tokenizer, template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.data.templates import without_generation_markers
from distill.errors import DataError, ExportError
from distill.files import read_json

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_PATTERN = _QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

# What cuts text before BPE, as tokenizer.json says it -> llama.cpp's name, and whether known words skip the merges.
PRE_TOKENIZERS: dict[tuple[str, ...], tuple[str, bool]] = {
    ("byte-level-words",): ("gpt-2", False),
    ("digits", "byte-level-words"): ("smollm", False),
    (f"split {_QWEN2_PATTERN}", "byte-level"): ("qwen2", False),
    (f"split {_LLAMA3_PATTERN}", "byte-level"): ("llama-bpe", True),
}


@dataclass(frozen=True)
class Vocabulary:
    """Everything under `tokenizer.*` in a GGUF file; ids are None where the tokenizer has no such token."""

    pre: str
    tokens: tuple[str, ...]
    token_types: tuple[int, ...]
    merges: tuple[str, ...]
    eos_id: int
    eot_id: int | None
    eom_id: int | None
    bos_id: int | None
    pad_id: int | None
    chat_template: str


def read_vocabulary(folder: Path, *, vocab_size: int) -> Vocabulary:
    """Reads tokenizer.json, tokenizer_config.json, generation_config.json and the chat template of `folder`.

    Args:
        vocab_size: rows of the embedding; ids the tokenizer lacks become `[PADi]`, marked unused.

    Raises:
        ExportError: a file is missing, the tokenizer is not a byte-level BPE whose pre-tokenizer llama.cpp
            knows, a token id lies outside the embedding, or there is no chat template or end token.
    """
    tokenizer = _read(folder / "tokenizer.json")
    config = _read(folder / "tokenizer_config.json")
    tokens, token_types = _tokens(tokenizer, vocab_size=vocab_size)
    id_of = {token: index for index, token in enumerate(tokens)}
    ends = _end_ids(folder, config, id_of)
    return Vocabulary(
        pre=_pre_tokenizer_name(tokenizer),
        tokens=tokens,
        token_types=token_types,
        merges=tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in _model(tokenizer)["merges"]),
        eos_id=ends[0],
        eot_id=ends[1] if len(ends) > 1 else None,
        eom_id=ends[2] if len(ends) > 2 else None,
        bos_id=_special_id(config, "bos_token", id_of),
        pad_id=_special_id(config, "pad_token", id_of),
        chat_template=without_generation_markers(_chat_template(folder, config)),
    )


def _read(path: Path) -> dict[str, object]:
    try:
        return read_json(path)
    except DataError as error:
        raise ExportError(error.what, why="GGUF carries its tokenizer", fix="save the tokenizer too") from error


def _model(tokenizer: Mapping[str, object]) -> Mapping[str, Any]:
    model = tokenizer.get("model")
    if not isinstance(model, Mapping) or model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = model.get("type") if isinstance(model, Mapping) else model
        raise ExportError(f"tokenizer.json holds a {kind} model", why="only byte-level BPE is written to GGUF")
    if not model.get("merges"):
        raise ExportError("tokenizer.json has no merges", why="llama.cpp does not load such a vocabulary")
    return model


def _tokens(tokenizer: Mapping[str, object], *, vocab_size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Token texts and types in id order, padded to `vocab_size`."""
    entries = {int(index): (str(token), NORMAL) for token, index in _model(tokenizer)["vocab"].items()}
    for added in _mappings(tokenizer.get("added_tokens")):
        entries[int(str(added["id"]))] = (str(added["content"]), CONTROL if added.get("special") else USER_DEFINED)
    highest = max(entries)
    if highest >= vocab_size:
        raise ExportError(
            f"token {entries[highest][0]!r} has id {highest}, config.json has vocab_size {vocab_size}",
            why="the embedding has no row for it",
            fix="resize the model's embeddings to the tokenizer",
        )
    rows = [entries.get(index, (f"[PAD{index}]", UNUSED)) for index in range(vocab_size)]
    return tuple(token for token, _ in rows), tuple(kind for _, kind in rows)


def _pre_tokenizer_name(tokenizer: Mapping[str, object]) -> str:
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and not (isinstance(normalizer, Mapping) and normalizer.get("type") == "NFC"):
        raise ExportError(f"tokenizer.json has the normalizer {normalizer!r:.80}", why="llama.cpp would not apply it")
    steps = tuple(_step_name(step) for step in _flattened(tokenizer.get("pre_tokenizer")))
    name, skips_merges = PRE_TOKENIZERS.get(steps, ("", False))
    if not name:
        raise ExportError(
            f"tokenizer.json has the pre-tokenizer {' + '.join(steps) or 'none'}",
            why=f"llama.cpp would split text differently; known: {', '.join(n for n, _ in PRE_TOKENIZERS.values())}",
            fix="train the tokenizer with a known pre-tokenizer",
        )
    if bool(_model(tokenizer).get("ignore_merges")) != skips_merges:
        raise ExportError(f"tokenizer.json: ignore_merges is {not skips_merges}", why=f"{name} has {skips_merges}")
    return name


def _flattened(node: object) -> list[Mapping[str, object]]:
    if not isinstance(node, Mapping):
        return []
    if node.get("type") == "Sequence":
        return [leaf for child in _mappings(node.get("pretokenizers")) for leaf in _flattened(child)]
    return [node]


def _step_name(step: Mapping[str, object]) -> str:
    """A short name for a pre-tokenizer step; an unknown one is named by its JSON, so that no table row meets it."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(uses_regex)}:
            return "byte-level-words" if uses_regex else "byte-level"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return f"split {pattern}"
    return json.dumps(step, sort_keys=True)


def _end_ids(folder: Path, config: Mapping[str, object], id_of: Mapping[str, int]) -> list[int]:
    """The tokenizer's end token first, then the other end ids of generation_config.json or config.json."""
    eos_id = _special_id(config, "eos_token", id_of)
    if eos_id is None:
        raise ExportError("tokenizer_config.json names no eos_token", why="generation would never stop")
    ends = [eos_id]
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            value = _read(folder / name).get("eos_token_id")
            listed = value if isinstance(value, list) else [value]
            ends += [index for index in listed if isinstance(index, int) and index not in ends]
    if len(ends) > 3:
        raise ExportError(f"{len(ends)} end tokens: {ends}", why="GGUF has room for three", fix="name at most three")
    return ends


def _special_id(config: Mapping[str, object], key: str, id_of: Mapping[str, int]) -> int | None:
    content = _content(config.get(key))
    if content is None:
        return None
    if content not in id_of:
        raise ExportError(f"tokenizer_config.json: {key} is {content!r}", why="the vocabulary has no such token")
    return id_of[str(content)]


def _content(token: object) -> object:
    return token.get("content") if isinstance(token, Mapping) else token


def _chat_template(folder: Path, config: Mapping[str, object]) -> str:
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.exists() else config.get("chat_template")
    if not isinstance(template, str) or not template:
        raise ExportError(
            f"{folder} has no chat template",
            why="runtimes silently choose another one",
            fix="save the tokenizer with its chat_template",
        )
    return template


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, Sequence) else []
