"""Scores a batch, and where memory runs out, its halves."""

import gc
import logging
from collections.abc import Sequence

import torch

from distill.errors import CacheError
from distill.teacher_cache.codecs import Codec, EncodedRows, joined
from distill.teacher_cache.plan import PlannedBatch
from distill.teacher_cache.scoring import Scorer

log = logging.getLogger(__name__)


class MemoryGuard:
    """What one worker has learned about its memory: `max_positions` is the most that one pass may hold."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.max_positions: int | None = None

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        """The rows of each codec, in the batch's order; out of memory, the budget is halved, for this and what follows.

        Raises:
            CacheError: one sequence alone does not fit.
        """
        parts = (batch,) if self.max_positions is None else batch.cut(self.max_positions)
        if len(parts) == 1:
            return self._tried(batch, codecs)
        encoded = [self.score(part, codecs) for part in parts]
        return [joined(rows) for rows in zip(*encoded, strict=True)]

    def _tried(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        try:
            return self._scorer.score(batch, codecs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._halve(batch, error)
        # Here the failed pass is forgotten, its traceback included, which held its tensors.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.score(batch, codecs)

    def _halve(self, batch: PlannedBatch, error: BaseException) -> None:
        if len(batch.sequences) == 1:
            raise CacheError(
                f"out of memory with sequence {batch.sequences[0].id[:12]} alone ({batch.num_positions} tokens)",
                why=str(error).partition(". ")[0],
                fix="lower cache.max_length_tokens, or load the teacher with teacher.dtype=bfloat16",
            ) from error
        self.max_positions = batch.num_positions // 2
        log.warning(
            "out of memory with %d positions in a pass; going on with %d", batch.num_positions, self.max_positions
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
