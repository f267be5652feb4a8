"""A teacher behind a server fills the tiers `scores` and `top-k`; it shows no hidden states and no head."""

from collections.abc import Sequence
from functools import cached_property

import torch

from distill.data import template_hash
from distill.decoding import EndpointScorer, EndpointScores, EndpointSettings
from distill.errors import CacheError
from distill.files import fingerprint
from distill.models import Tokenizer
from distill.teacher_cache.codecs import Codec, CodecName, EncodedRows, HeadShape, TopK
from distill.teacher_cache.codecs.scores import ScoresCodec
from distill.teacher_cache.codecs.top_k import TopKCodec
from distill.teacher_cache.plan import PlannedBatch
from distill.teacher_cache.scoring import TeacherIdentity
from distill.teacher_cache.vocabulary import tokenizer_fingerprint

ENDPOINT_CODECS: tuple[CodecName, ...] = ("scores", "top-k")
UNKNOWN_HIDDEN_SIZE = 0


class EndpointTeacher:
    """Scores planned batches with the model of a server: a `Scorer`.

    Args:
        settings: where the server is.
        tokenizer: the teacher's.
        vocab_size: rows of the teacher's head where they are more than the tokenizer's tokens.

    Raises:
        EndpointError: the key's environment variable is not set.
    """

    def __init__(self, settings: EndpointSettings, tokenizer: Tokenizer, *, vocab_size: int | None = None) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._vocab_size = max(len(tokenizer), vocab_size or 0)
        self._scorer = EndpointScorer(settings, tokenizer, vocab_size=self._vocab_size)

    @cached_property
    def served_model(self) -> str:
        """What the server says the model is.

        Raises:
            EndpointError: the server does not answer, or does not serve the model.
        """
        return self._scorer.client.served_model()

    @cached_property
    def identity(self) -> TeacherIdentity:
        """What the server says the model is, under which name it is asked, and the tokenizer: not where it runs.

        Raises:
            EndpointError: as `served_model`.
        """
        return TeacherIdentity(
            served_fingerprint(self.served_model, self._settings, self._tokenizer),
            tokenizer_fingerprint(self._tokenizer),
            template_hash(self._tokenizer),
            HeadShape(self._vocab_size, UNKNOWN_HIDDEN_SIZE),
        )

    @property
    def head(self) -> None:
        """A server shows none."""
        return

    def shares_prompts(self, *, longest: int) -> bool:
        """Never: each sequence is a request of its own."""
        del longest
        return False

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        """The rows of each codec for all completion tokens of the batch, `max_concurrent` requests at a time.

        Raises:
            CacheError: a codec is not one that a server can fill.
            EndpointError: the server does not answer as it should.
        """
        require_endpoint_codecs(codecs)
        k = max((codec.settings.k for codec in codecs if isinstance(codec, TopKCodec)), default=0)
        return scored_rows(self._scorer.score([planned.sequence for planned in batch.sequences], k=k), codecs)


def served_fingerprint(served_model: str, settings: EndpointSettings, tokenizer: Tokenizer) -> str:
    """The fingerprint of a model behind a server; what the server says of it needs no asking where it is known."""
    return fingerprint(["endpoint", served_model, settings.model, tokenizer_fingerprint(tokenizer)])


def require_endpoint_codecs(codecs: Sequence[Codec]) -> None:
    """Refuses codecs that need more than log-probs.

    Raises:
        CacheError: names them.
    """
    others = [codec.name for codec in codecs if codec.name not in ENDPOINT_CODECS]
    if others:
        raise CacheError(
            f"cache.codec asks for {', '.join(others)}, and the teacher is behind a server",
            why="a server tells log-probs of the likeliest tokens, neither hidden states nor whole distributions",
            fix="cache.codec=[scores,top-k], or a teacher whose weights can be loaded: no teacher.endpoint",
        )


def scored_rows(scores: Sequence[EndpointScores], codecs: Sequence[Codec]) -> list[EncodedRows]:
    """What a server said of several sequences as the rows of each codec, sequence after sequence.

    A server tells log-probs, not logits: the log-normaliser stored by `top-k` is 0, which says that they are
    normalised already, and the tail mass is 1 minus the sum of what is listed.

    Raises:
        CacheError: a codec is neither `scores` nor `top-k`, or would store numbers that its reader refuses.
    """
    require_endpoint_codecs(codecs)
    encoded = []
    for codec in codecs:
        rows = _rows(scores, codec)
        problem = codec.check(rows)
        if problem is not None:
            raise CacheError(
                f"the server's answer cannot be stored as tier {codec.name}: {problem}",
                why="training would meet these numbers",
                fix="look at the server's log-probs and its log",
            )
        encoded.append(rows)
    return encoded


def _rows(scores: Sequence[EndpointScores], codec: Codec) -> EncodedRows:
    if isinstance(codec, ScoresCodec):
        return codec.rows_of(torch.cat([own.token_log_probs for own in scores]))
    assert isinstance(codec, TopKCodec)
    k = codec.settings.k
    token_ids = torch.cat([own.top_ids[:, :k] for own in scores])
    log_probs = torch.cat([own.top_log_probs[:, :k] for own in scores])
    # Float32 log-probs cannot tell less than 2^-24 from nothing, and no token is impossible for a softmax.
    tail = (1.0 - log_probs.double().exp().sum(-1)).clamp(2.0**-24, 1.0).float()
    return codec.rows_of(TopK(token_ids, log_probs, tail, torch.zeros_like(tail)))
