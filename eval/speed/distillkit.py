"""Arcee's DistillKit as a peer: its `compression` module, where it is installed; no dependency of this project.

pip install --no-deps --target FOLDER git+https://github.com/arcee-ai/DistillKit
"""

import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

POLYNOMIAL_TERMS = (0, 1, 2, 3, 4)
PLAIN: dict[str, Any] = {"exact_dtype": "bfloat16", "residual_bins": [], "delta_encoding": False}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "recommended (k=128, 16 exact)": {"k": 128, "exact_k": 16, "terms": (*POLYNOMIAL_TERMS, "sqrt")},
    "recommended, normalize_t": {
        "k": 128,
        "exact_k": 16,
        "terms": (*POLYNOMIAL_TERMS, "sqrt"),
        "normalize_t": True,
    },
    "quick start (k=128, 32 exact)": {
        "k": 128,
        "exact_k": 32,
        "terms": (0, 1, 2),
        "exact_dtype": "float32",
        "delta_encoding": True,
    },
    "budget (k=50, 1 exact)": {"k": 50, "exact_k": 1, "terms": (0, 1, "sqrt")},
    "plain top-64": {"k": 64, "exact_k": 64, "terms": ()},
}
"""What its README recommends, the same with the abscissa scaled to 0..1, its quick start, its budget pick, a list
without a curve. All are given float32 log-probs, as its capture gives them."""


@dataclass(frozen=True)
class DistillKit:
    """The peer's modules."""

    compression: ModuleType
    densify: ModuleType
    missing_probability: ModuleType
    version: str

    def compressed(
        self, name: str, log_probs: Float[Tensor, "tokens vocab"]
    ) -> tuple[int, Float[Tensor, "tokens vocab"]]:
        """Bytes that the log-probs take, and what is read back, with the tail spread evenly and normalised."""
        vocab_size = log_probs.shape[-1]
        compressor = self.compression.LogprobCompressor(config=self._config(name, vocab_size=vocab_size))
        stored = compressor.compress(log_probs[None])
        token_ids, values = compressor.decompress_to_sparse(stored)
        even = self.missing_probability.MissingProbabilityHandling.SYMMETRIC_UNIFORM
        dense: Tensor = self.densify.densify(token_ids, values.float(), vocab_size, even, renormalize=True)
        return sum(part.nbytes for part in stored.values()), dense[0]

    def bytes_per_token(self, name: str, *, vocab_size: int) -> int:
        """Bytes of one token, found by storing two: of a single one, misaligned slices cannot be read back."""
        log_probs = torch.linspace(0.0, -9.0, vocab_size).log_softmax(-1)
        num_bytes, _ = self.compressed(name, torch.stack([log_probs, log_probs]))
        return num_bytes // 2

    def _config(self, name: str, *, vocab_size: int) -> object:
        configuration = PLAIN | CONFIGURATIONS[name]
        terms = list(configuration.pop("terms")) or None
        return self.compression.DistributionQuantizationConfig(d=vocab_size, polynomial_terms=terms, **configuration)


def find_distillkit(folder: Path | None) -> DistillKit | None:
    """The peer from `folder`, or from the environment; None where it is not installed."""
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        compression = importlib.import_module("distillkit.compression")
        densify = importlib.import_module("distillkit.compression.densify")
        missing_probability = importlib.import_module("distillkit.missing_probability")
    except ImportError:
        return None
    try:
        version = metadata.version("distillkit")
    except metadata.PackageNotFoundError:
        version = "unknown"
    return DistillKit(compression, densify, missing_probability, version)
