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
    fetch("mt_bench", from_dir=public_folder, out=tmp_path)
    out = capsys.readouterr().out
    assert all(source.target.split("/")[-1] in out for source in SOURCES)
    assert "CC-BY-4.0" in out


@pytest.fixture
def public_folder() -> Path:
    import os

    folder = Path(os.environ.get("DISTILL_TEST_DATA", "absent")) / "mt_bench"
    if not folder.is_dir():
        pytest.skip("DISTILL_TEST_DATA names no folder with mt_bench")
    return folder
