import pytest
import torch

from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes, as_values, joined


def varying() -> EncodedRows:
    """Three tokens of 1, 2 and 1 entries."""
    return EncodedRows(torch.arange(12, dtype=torch.uint8), torch.tensor([1, 2, 1], dtype=torch.uint8))


def test_rows_that_vary_are_cut_where_their_entries_end():
    """Two tokens take 1 + 2 entries of 3 bytes, so the cut lies at byte 9."""
    first, second = varying().split([2, 1])
    assert (first.records.tolist(), second.records.tolist()) == (list(range(9)), [9, 10, 11])
    assert (first.num_tokens, second.num_tokens) == (2, 1)


@pytest.mark.parametrize("rows", [varying(), EncodedRows(torch.arange(6, dtype=torch.uint8).view(3, 2))])
@pytest.mark.parametrize("lengths", [[3], [1, 2], [1, 1, 1], [0, 3]])
def test_joining_undoes_splitting(rows, lengths):
    again = joined(rows.split(lengths))
    assert torch.equal(again.records, rows.records)
    assert again.entry_counts is rows.entry_counts or torch.equal(again.entry_counts, rows.entry_counts)


def test_size_counts_the_index_of_rows_that_vary():
    assert varying().size_bytes == 12 + 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_come_back_from_columns_at_odd_places(dtype):
    values = torch.tensor([[1.5, -2.0]], dtype=dtype)
    record = torch.cat([torch.zeros(1, 3, dtype=torch.uint8), as_bytes(values)], dim=1)
    assert torch.equal(as_values(record[:, 3:], dtype), values)


def test_bytes_are_little_endian():
    assert as_bytes(torch.tensor([[1]], dtype=torch.int32)).tolist() == [[1, 0, 0, 0]]
