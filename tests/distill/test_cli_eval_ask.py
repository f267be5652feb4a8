import json
from pathlib import Path

import pytest

from distill.cli_eval_ask import fetch
from distill.errors import RecipeError
from eval.mt_bench.sources import SOURCES


def test_fetch_knows_mt_bench_only():
    with pytest.raises(RecipeError, match="fetch alpaca: nothing of this name is known"):
        fetch("alpaca")


def test_fetch_lists_every_file_with_its_licence(
    public_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fetch("mt_bench", from_dir=public_folder, out=tmp_path, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert {row["file"] for row in rows} == {source.target for source in SOURCES}
    assert all(row["licence"] for row in rows)


@pytest.fixture
def public_folder() -> Path:
    import os

    folder = Path(os.environ.get("DISTILL_TEST_DATA", "absent")) / "mt_bench"
    if not folder.is_dir():
        pytest.skip("DISTILL_TEST_DATA names no folder with mt_bench")
    return folder
