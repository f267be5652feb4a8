import torch

from distill.teacher_cache.codecs import TopK
from eval.speed import nested_parquet
from eval.speed.nested_parquet import read_as_lists, read_flattened, write_nested


def test_both_ways_of_reading_give_back_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(nested_parquet, "ROWS_AT_ONCE", 2)
    torch.manual_seed(0)
    lists = [
        TopK(torch.randint(9, (n, 3), dtype=torch.int32), torch.randn(n, 3), torch.zeros(n), torch.zeros(n))
        for n in (4, 1, 5)
    ]
    write_nested(tmp_path / "lists.parquet", lists)
    write_nested(tmp_path / "plain.parquet", lists, is_plain=True)
    for parts in (read_as_lists(tmp_path / "lists.parquet"), read_flattened(tmp_path / "plain.parquet", k=3)):
        ids, values = (torch.cat(columns) for columns in zip(*parts, strict=True))
        assert torch.equal(ids, torch.cat([top_k.token_ids for top_k in lists]))
        assert torch.equal(values, torch.cat([top_k.log_probs for top_k in lists]))
