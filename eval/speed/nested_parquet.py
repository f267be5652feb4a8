"""How others keep lists of likeliest tokens: nested lists in Parquet, per token a list of ids and a list of values."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from distill.teacher_cache.codecs import TopK

ROWS_AT_ONCE = 64

SCHEMA = pyarrow.schema(
    [
        ("token_ids", pyarrow.list_(pyarrow.list_(pyarrow.int32()))),
        ("log_probs", pyarrow.list_(pyarrow.list_(pyarrow.float32()))),
    ]
)


def write_nested(path: Path, lists: Sequence[TopK]) -> None:
    """One row a sequence, `ROWS_AT_ONCE` rows a group, compressed as Parquet does by default."""
    with pyarrow.parquet.ParquetWriter(path, SCHEMA) as writer:
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
    """The same without Python lists, for who knows that every list has `k` entries: the best this format allows."""
    file = pyarrow.parquet.ParquetFile(path)
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        columns = [table.column(name).combine_chunks().flatten().flatten() for name in SCHEMA.names]
        ids, values = (torch.from_numpy(column.to_numpy().reshape(-1, k).copy()) for column in columns)
        yield ids, values
