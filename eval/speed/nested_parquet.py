"""How others keep lists of likeliest tokens: nested lists in Parquet, per token a list of ids and a list of values."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from distill.teacher_cache.codecs import TopK

ROWS_AT_ONCE = 64

SCHEMA = pyarrow.schema(
    [
        ("token_ids", pyarrow.list_(pyarrow.list_(pyarrow.int32()))),
        ("log_probs", pyarrow.list_(pyarrow.list_(pyarrow.float32()))),
    ]
)


def write_nested(path: Path, lists: Sequence[TopK], *, is_plain: bool = False) -> None:
    """One row a sequence, `ROWS_AT_ONCE` rows a group.

    Args:
        path: the file.
        lists: of each sequence.
        is_plain: numbers as they are, the fastest to read; else dictionaries and Snappy, the format's defaults.
    """
    compression = "none" if is_plain else "snappy"
    with pyarrow.parquet.ParquetWriter(path, SCHEMA, use_dictionary=not is_plain, compression=compression) as writer:
        for start in range(0, len(lists), ROWS_AT_ONCE):
            part = lists[start : start + ROWS_AT_ONCE]
            columns = [
                pyarrow.array([getattr(top_k, name).numpy().tolist() for top_k in part], type=SCHEMA.field(name).type)
                for name in SCHEMA.names
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=SCHEMA))


def read_as_lists(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and log-probs of each group of rows, through Python lists: what a data set of nested columns gives."""
    file = pyarrow.parquet.ParquetFile(path)
    for number in range(file.num_row_groups):
        rows = file.read_row_group(number).to_pydict()
        ids = torch.cat([torch.tensor(row, dtype=torch.int32) for row in rows["token_ids"]])
        yield ids, torch.cat([torch.tensor(row, dtype=torch.float32) for row in rows["log_probs"]])


def read_flattened(path: Path, *, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same without Python lists or a copy, for who knows that every list has `k` entries."""
    file = pyarrow.parquet.ParquetFile(path)
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, use_threads=False)
        (ids,), (values,) = (table.column(name).chunks for name in SCHEMA.names)
        yield _without_offsets(ids, k=k), _without_offsets(values, k=k)


def _without_offsets(lists: pyarrow.Array, *, k: int) -> Tensor:
    return from_dlpack(lists.flatten().flatten()).view(-1, k)
