"""Modules of the `evaluate` library, loaded from their local paths.

evaluate.load("eval/metrics/answer_accuracy.py")
"""

__all__: list[str] = []
