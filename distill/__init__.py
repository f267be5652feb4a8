"""Distils a large chat model into a small one that people can deploy."""

__version__ = "0.1.0"

__all__ = ["__version__"]
