"""Metrics loaded as users load them: from their paths, offline."""

from collections.abc import Callable
from pathlib import Path

import evaluate
import pytest

FOLDER = Path(__file__).parents[3] / "eval" / "metrics"


@pytest.fixture(scope="session")
def modules_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `evaluate` copies modules to: one folder, for it stays on the path of imports."""
    return tmp_path_factory.mktemp("evaluate-modules")


@pytest.fixture
def load_metric(
    tmp_path: Path, modules_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], evaluate.Metric]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(modules_folder))

    def load(name: str) -> evaluate.Metric:
        return evaluate.load(str(FOLDER / f"{name}.py"), cache_dir=str(tmp_path / "cache"), experiment_id=tmp_path.name)

    return load
