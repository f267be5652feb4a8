"""One sequence of a cache, by the same names as the cache reads many."""

from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from distill.teacher_cache.codecs import Samples, TopK

if TYPE_CHECKING:
    from distill.teacher_cache.reader import TeacherCache


class CachedSequence:
    """What the teacher said about one completion; row i predicted completion token i, end-of-turn included.

    Every method raises CacheError where no tier of the cache answers, and names the command that adds one.
    """

    def __init__(self, cache: "TeacherCache", sequence_id: str) -> None:
        self._cache = cache
        self.sequence_id = sequence_id

    def completion_ids(self) -> Int[Tensor, " tokens"]:
        """The completion's tokens."""
        return self._cache.completion_ids([self.sequence_id])

    def token_log_probs(self) -> Float[Tensor, " tokens"]:
        """Log-prob of each token in nats, float32."""
        return self._cache.token_log_probs([self.sequence_id])

    def log_probs(self) -> Float[Tensor, "tokens vocab"]:
        """The whole distribution at each token, float32."""
        return self._cache.log_probs([self.sequence_id])

    def hidden_states(self) -> Float[Tensor, "tokens hidden"]:
        """Final hidden states, float32."""
        return self._cache.hidden_states([self.sequence_id])

    def top_k(self) -> TopK:
        """The likeliest tokens at each position."""
        return self._cache.top_k([self.sequence_id])

    def samples(self) -> Samples:
        """Tokens drawn at each position."""
        return self._cache.samples([self.sequence_id])
