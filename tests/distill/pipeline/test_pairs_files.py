"""Pairs of several stages, read as one set."""

from pathlib import Path

import pytest

from distill.data import Message, PreferencePair, write_pairs
from distill.errors import DataError
from distill.files import sha256_of_file
from distill.pipeline.pairs_files import counts_by_stage, pairs_fingerprint, read_all_pairs


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two pairs of one stage, one of the other."""
    found = {}
    for stage, names in (("pairs", ("tea:0", "cake:1")), ("safer_instruct", ("si-0",))):
        found[stage] = tmp_path / f"{stage}.jsonl"
        write_pairs(found[stage], [PreferencePair(name, (Message("user", name),), "yes", "no") for name in names])
    return found


def test_stages_follow_each_other(files: dict[str, Path]):
    assert [pair.id for pair in read_all_pairs(files)] == ["tea:0", "cake:1", "si-0"]
    files["pairs"].unlink()
    with pytest.raises(DataError, match="pairs.jsonl"):
        read_all_pairs(files)


def test_every_pair_is_counted_where_it_was_made(files: dict[str, Path]):
    assert counts_by_stage(files, ["si-0", "cake:1", "tea:0"]) == {"pairs": 2, "safer_instruct": 1}
    assert counts_by_stage(files, ["tea:0"]) == {"pairs": 1, "safer_instruct": 0}


def test_the_fingerprint_tells_files_and_their_order(files: dict[str, Path]):
    """Of one file it is the hash of its bytes: caches made before there were several stay valid."""
    first, second = files.values()
    assert pairs_fingerprint([first]) == sha256_of_file(first)
    several = {pairs_fingerprint(paths) for paths in ([first], [second], [first, second], [second, first])}
    assert len(several) == 4
