"""One shard: a safetensors file of sequences end to end, written whole, read memory-mapped.

Tensors (n sequences, t completion tokens in all):

    ids              uint8   [n, 32]       sequence ids as bytes
    offsets          int64   [n + 1]       sequence i takes rows offsets[i] to offsets[i + 1]
    completion_ids   int32   [t]
    token_log_probs  float32 [t]           nats
    hidden_states    bfloat16 or float32 [t, hidden]    codec `exact` only
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill.errors import CacheError
from distill.files import replacing_file
from distill.teacher_cache.codecs import HIDDEN_DTYPES, HiddenDtype

SHARD_FORMAT = "distill-teacher-shard"
SHARD_VERSION = 1
ID_BYTES = 32

_STORED_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


@dataclass(frozen=True)
class ScoredSequence:
    """What the teacher said about one completion."""

    id: str
    completion_ids: Int[Tensor, " tokens"]
    token_log_probs: Float[Tensor, " tokens"]
    hidden_states: Float[Tensor, "tokens hidden"] | None


@dataclass(frozen=True)
class ShardLayout:
    """What a cache's manifest promises about each of its shards."""

    hidden_size: int | None
    hidden_dtype: HiddenDtype | None

    @property
    def names(self) -> frozenset[str]:
        """The tensors that a shard holds, no more and no fewer."""
        names = {"ids", "offsets", "completion_ids", "token_log_probs"}
        return frozenset(names if self.hidden_size is None else names | {"hidden_states"})


def write_shard(path: Path, sequences: Sequence[ScoredSequence], *, layout: ShardLayout) -> None:
    """Writes a shard, whole or not at all; equal sequences give equal bytes."""
    lengths = torch.tensor([len(scored.token_log_probs) for scored in sequences], dtype=torch.int64)
    tensors: dict[str, Tensor] = {
        "ids": torch.tensor([list(bytes.fromhex(scored.id)) for scored in sequences], dtype=torch.uint8),
        "offsets": torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        "completion_ids": torch.cat([scored.completion_ids for scored in sequences]).int(),
        "token_log_probs": torch.cat([scored.token_log_probs for scored in sequences]).float(),
    }
    if layout.hidden_dtype is not None:
        stored = HIDDEN_DTYPES[layout.hidden_dtype]
        tensors["hidden_states"] = torch.cat([_hidden_states(scored).to(stored) for scored in sequences])
    header = json.dumps({"format": SHARD_FORMAT, "version": SHARD_VERSION})
    # save_file reports a full disk as a SafetensorError without errno; a Python write keeps the errno.
    content = save(tensors, metadata={"distill": header})
    with replacing_file(path) as partial:
        partial.write_bytes(content)


class ShardReader:
    """A shard checked once and read by row; what the file claims about itself is never trusted unchecked.

    Raises:
        CacheError: the file is missing, cut off, of another format, or breaks the layout; names the shard.
    """

    def __init__(self, path: Path, *, layout: ShardLayout) -> None:
        self.path = path
        self._layout = layout
        try:
            file: Any = safe_open(path, framework="pt")
        except FileNotFoundError as error:
            raise damaged(path, "the file is missing") from error
        except (OSError, SafetensorError) as error:
            raise damaged(path, f"the file cannot be opened: {error}") from error
        self._check_format(file.metadata())
        self._check_names(frozenset(file.keys()))
        headers: Mapping[str, Any] = {name: file.get_slice(name) for name in layout.names}
        self.num_sequences, num_tokens = self._checked_shapes(headers)
        # Views of the mapped file: nothing is read before it is asked for.
        self._tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in layout.names}
        self.offsets: list[int] = self._tensors["offsets"].tolist()
        self._check_offsets(num_tokens)
        self.sequence_ids = tuple(bytes(row).hex() for row in self._tensors["ids"].tolist())
        if len(set(self.sequence_ids)) != self.num_sequences:
            raise damaged(path, "a sequence id stands in it twice")

    @property
    def num_tokens(self) -> int:
        """Completion tokens in the shard."""
        return self.offsets[-1]

    def rows(self, name: str, row: int) -> Tensor:
        """A copy of one sequence's part of the tensor `name`, in its stored dtype.

        Raises:
            CacheError: the shard holds no such tensor.
        """
        if name not in self._layout.names:
            raise CacheError(f"{self.path} holds no {name}", why="the codec of this cache does not store them")
        assert 0 <= row < self.num_sequences
        return self._tensors[name][self.offsets[row] : self.offsets[row + 1]].clone()

    def _check_format(self, metadata: Mapping[str, str] | None) -> None:
        try:
            header = json.loads((metadata or {})["distill"])
        except (KeyError, json.JSONDecodeError) as error:
            raise damaged(self.path, "it is not a shard of a teacher cache") from error
        if header != {"format": SHARD_FORMAT, "version": SHARD_VERSION}:
            raise damaged(self.path, f"its header says {header!r:.80}; this version reads {SHARD_VERSION}")

    def _check_names(self, found: frozenset[str]) -> None:
        wrong = sorted(found ^ self._layout.names)
        if wrong:
            raise damaged(self.path, f"its tensors differ from the manifest's codec in {', '.join(wrong)}")

    def _checked_shapes(self, headers: Mapping[str, Any]) -> tuple[int, int]:
        """Sequences and tokens of the shard, from headers that agree with each other and with the layout."""
        ids_shape, tokens_shape = headers["ids"].get_shape(), headers["completion_ids"].get_shape()
        if len(ids_shape) != 2 or ids_shape[0] == 0:
            raise damaged(self.path, f"ids has shape {ids_shape}")
        if len(tokens_shape) != 1:
            raise damaged(self.path, f"completion_ids has shape {tokens_shape}")
        num_sequences, num_tokens = int(ids_shape[0]), int(tokens_shape[0])
        expected: dict[str, tuple[str, list[int]]] = {
            "ids": ("U8", [num_sequences, ID_BYTES]),
            "offsets": ("I64", [num_sequences + 1]),
            "completion_ids": ("I32", [num_tokens]),
            "token_log_probs": ("F32", [num_tokens]),
        }
        if self._layout.hidden_size is not None and self._layout.hidden_dtype is not None:
            dtype = _STORED_NAMES[HIDDEN_DTYPES[self._layout.hidden_dtype]]
            expected["hidden_states"] = (dtype, [num_tokens, self._layout.hidden_size])
        for name, (dtype, shape) in expected.items():
            found = (headers[name].get_dtype(), headers[name].get_shape())
            if found != (dtype, shape):
                raise damaged(self.path, f"{name} is {found[0]} {found[1]}, not {dtype} {shape}")
        return num_sequences, num_tokens

    def _check_offsets(self, num_tokens: int) -> None:
        grows = all(start < end for start, end in zip(self.offsets, self.offsets[1:], strict=False))
        if self.offsets[0] != 0 or self.offsets[-1] != num_tokens or not grows:
            raise damaged(self.path, f"offsets do not climb from 0 to {num_tokens}")


def damaged(path: Path, problem: str) -> CacheError:
    """The error for a file of a cache that cannot be believed."""
    return CacheError(
        f"{path.parent.name}/{path.name} of the teacher cache is damaged: {problem}",
        why=f"{path} is not what the manifest says was written",
        fix=f"delete {path} and make the cache again; only this file is scored anew",
    )


def _hidden_states(scored: ScoredSequence) -> Float[Tensor, "tokens hidden"]:
    assert scored.hidden_states is not None, "codec exact scores keep their hidden states"
    return scored.hidden_states
