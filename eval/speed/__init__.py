"""Benchmarks: `python -m eval.speed.NAME` prints one JSON line."""

__all__: list[str] = []
