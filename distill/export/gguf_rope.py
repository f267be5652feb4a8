"""Rotary positions of config.json as llama.cpp takes them: keys of the file, or a factor for each frequency."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from distill.errors import ExportError

# rope_type -> the keys it may have besides rope_type and rope_theta.
_KINDS: dict[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "yarn": frozenset({"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"}),
    "llama3": frozenset({"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}),
}
_YARN_DEFAULTS = {"beta_fast": 32.0, "beta_slow": 1.0}


@dataclass(frozen=True)
class Rope:
    """Base and stretching of the rotary positions; `original_length` is in tokens, 0 where nothing is stretched.

    `low_freq_factor` and `high_freq_factor` belong to llama3: wave lengths above `original_length` / low are
    stretched by `factor`, those below `original_length` / high are kept.
    """

    kind: Literal["default", "linear", "yarn", "llama3"]
    theta: float
    factor: float = 1.0
    original_length: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Writes the keys; llama3 has none, see `frequency_factors`."""
        writer.add_rope_freq_base(self.theta)
        if self.kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(self.factor)
        elif self.kind == "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(self.factor)
            writer.add_rope_scaling_orig_ctx_len(self.original_length)

    def frequency_factors(self, head_dim: int) -> NDArray[np.float32] | None:
        r"""By what llama.cpp divides each of a head's `head_dim` / 2 frequencies; None where by nothing.

        .. math:: 1 / \big((1 - s) / \text{factor} + s\big), \quad
            s = \text{clip}\Big(\frac{L / \lambda - \text{low}}{\text{high} - \text{low}}, 0, 1\Big), \quad
            \lambda = 2 \pi \theta^{2 i / d}

        Source: transformers' `_compute_llama3_parameters`.
        """
        if self.kind != "llama3":
            return None
        wave_lengths = 2 * math.pi * self.theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        steps = self.original_length / wave_lengths - self.low_freq_factor
        kept = np.clip(steps / (self.high_freq_factor - self.low_freq_factor), 0.0, 1.0)
        factors: NDArray[np.float32] = (1 / ((1 - kept) / self.factor + kept)).astype(np.float32)
        return factors


def rope_of(config: Mapping[str, object]) -> Rope:
    """Reads `rope_parameters`, or `rope_scaling` and `rope_theta` as older files have them.

    Raises:
        ExportError: the kind, or one of its keys, says something that llama.cpp would not compute.
    """
    rope: dict[str, object] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        rope |= value if isinstance(value, dict) else {}
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    rope.pop("type", None)
    theta = _number("rope_theta", rope.pop("rope_theta", config.get("rope_theta", 10000.0)))
    rope = {key: value for key, value in rope.items() if value is not None}
    if float(str(rope.pop("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0))) != 1.0:
        raise ExportError("config.json: partial_rotary_factor is not 1", why="whole heads are rotated in GGUF here")
    match kind:
        case "default":
            pass
        case "linear":
            _require_known(rope, kind)
            return Rope(kind, theta, _number("factor", rope.get("factor")))
        case "yarn":
            return _yarn(rope, theta)
        case "llama3":
            return _llama3(rope, theta)
        case _:
            raise ExportError(
                f"config.json: rope_type is {kind!r}",
                why=f"not written to GGUF yet; known: {', '.join(_KINDS)}",
                fix="leave the gguf formats out",
            )
    return Rope("default", theta)


def _yarn(rope: Mapping[str, object], theta: float) -> Rope:
    _require_known(rope, "yarn")
    factor = _number("factor", rope.get("factor"))
    expected = {**_YARN_DEFAULTS, "attention_factor": 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0}
    for key, value in expected.items():
        if key in rope and not math.isclose(_number(key, rope[key]), value, rel_tol=1e-6):
            raise ExportError(f"config.json: {key} is {rope[key]!r}", why=f"with yarn, llama.cpp takes {value:g}")
    return Rope("yarn", theta, factor, _original_length(rope))


def _llama3(rope: Mapping[str, object], theta: float) -> Rope:
    _require_known(rope, "llama3")
    factor, low, high = (_number(key, rope.get(key)) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise ExportError(f"config.json: high_freq_factor is {high:g}", why=f"low_freq_factor is {low:g}, not below it")
    return Rope("llama3", theta, factor, _original_length(rope), low, high)


def _require_known(rope: Mapping[str, object], kind: str) -> None:
    unknown = min(rope.keys() - _KINDS[kind], default=None)
    if unknown is not None:
        raise ExportError(f"config.json: {kind} rotary positions have {unknown}", why="GGUF cannot say it")


def _original_length(rope: Mapping[str, object]) -> int:
    return int(_number("original_max_position_embeddings", rope.get("original_max_position_embeddings")))


def _number(key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ExportError(f"config.json: {key} is {value!r}", why="a positive number was expected")
    return float(value)
