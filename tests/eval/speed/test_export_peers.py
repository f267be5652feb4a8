from pathlib import Path

import pytest

from distill.errors import DistillError
from eval.speed.export_jobs import Written
from eval.speed.export_peers import in_turn


def test_two_take_turns_and_each_begins_without_what_it_wrote_before(tmp_path: Path):
    order: list[str] = []
    folders = {name: tmp_path / name for name in ("theirs", "ours")}

    def write(name: str) -> Written:
        folders[name].mkdir()
        order.append(name)
        return Written(elapsed_s=1.0, peak_bytes=1, size_bytes=1)

    done = in_turn({"theirs": lambda: write("theirs"), "ours": lambda: write("ours")}, num_repeats=2, remove=folders)
    assert order == ["theirs", "ours", "theirs", "ours"]
    assert [len(runs) for runs in done.values()] == [2, 2]
    assert all(folder.exists() for folder in folders.values())


def test_a_side_that_cannot_write_ends_the_comparison(tmp_path: Path):
    refused = Written(elapsed_s=1.0, peak_bytes=1, size_bytes=0, refusal="no room")
    with pytest.raises(DistillError, match=r"(?s)ours: no room.*nothing to compare"):
        in_turn({"ours": lambda: refused}, num_repeats=1, remove={"ours": tmp_path / "ours"})
