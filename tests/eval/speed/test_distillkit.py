import sys
from pathlib import Path

import pytest
import torch

from eval.speed.distillkit import CONFIGURATIONS, find_distillkit

BITS = """
def densify(token_ids, values, vocab_size, missing, renormalize):
    import torch
    dense = torch.full((*token_ids.shape[:-1], vocab_size), -9.0).scatter(-1, token_ids, values)
    return torch.log_softmax(dense, -1)
"""
COMPRESSION = """
import torch
class DistributionQuantizationConfig:
    def __init__(self, **arguments):
        self.arguments = arguments
class LogprobCompressor:
    def __init__(self, config):
        self.k = config.arguments["k"]
    def compress(self, log_probs):
        values, token_ids = log_probs.topk(self.k)
        return {"values": values, "token_ids": token_ids}
    def decompress_to_sparse(self, row):
        return row["token_ids"], row["values"]
"""
MISSING = "import enum\nclass MissingProbabilityHandling(enum.Enum):\n    SYMMETRIC_UNIFORM = 1\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the peer's interface."""
    compression = tmp_path / "distillkit" / "compression"
    compression.mkdir(parents=True)
    (tmp_path / "distillkit" / "__init__.py").write_text("")
    (tmp_path / "distillkit" / "missing_probability.py").write_text(MISSING)
    (compression / "__init__.py").write_text(COMPRESSION)
    (compression / "densify.py").write_text(BITS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.split(".")[0] == "distillkit"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "distillkit"]:
        del sys.modules[name]


def test_bytes_of_everything_stored_count_and_what_comes_back_is_normalised(installed: Path):
    peer = find_distillkit(installed)
    assert peer is not None
    log_probs = torch.randn(3, 200).log_softmax(-1)
    for name, configuration in CONFIGURATIONS.items():
        num_bytes, found = peer.compressed(name, log_probs)
        assert num_bytes == 3 * peer.bytes_per_token(name, vocab_size=200)
        assert num_bytes == 3 * configuration["k"] * (4 + 8)
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(3))


def test_settings_are_those_of_its_readme(installed: Path):
    peer = find_distillkit(installed)
    assert peer is not None
    recommended, quick, plain = (
        peer._config(name, vocab_size=200).arguments
        for name in ("recommended (k=128, 16 exact)", "quick start (k=128, 32 exact)", "plain top-64")
    )
    assert recommended["polynomial_terms"] == [0, 1, 2, 3, 4, "sqrt"]
    assert (recommended["exact_dtype"], recommended["delta_encoding"]) == ("bfloat16", False)
    assert (quick["exact_dtype"], quick["delta_encoding"]) == ("float32", True)
    assert plain["polynomial_terms"] is None


def test_without_the_package_there_is_no_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "distillkit").exists()])
    assert find_distillkit(tmp_path) is None
