"""The house rules that no linter checks."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("distill", "eval")
    for path in (ROOT / package).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
MAX_LINES = 300


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test_file(module: Path):
    mirrored = ROOT / "tests" / module.parent / f"test_{module.name}"
    assert mirrored.exists(), f"{module} is tested by {mirrored.relative_to(ROOT)}, which does not exist"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_fits_one_idea(module: Path):
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_no_test_folder_is_a_package():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_importing_distill_loads_no_torch():
    code = "import sys, distill; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_command_line_starts_without_torch():
    code = "import sys, distill.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
