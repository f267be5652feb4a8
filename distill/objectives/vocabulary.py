"""Teacher and student with one tokenizer but heads of different width: the tokens both have."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from distill.errors import ModelError
from distill.numerics import log_softmax, widened


class SharedVocabulary(NamedTuple):
    """A distribution over the tokens that both heads have, and the mass of those only one has."""

    log_probs: Float[Tensor, "*positions tokens"]
    dropped_mass: Float[Tensor, "*positions"]


def in_shared_vocabulary(log_probs: Float[Tensor, "*positions vocab"], *, num_tokens: int) -> SharedVocabulary:
    r"""The distribution given that the token is one of the first `num_tokens`, and the mass of all others.

    Heads are padded to widths that suit the hardware (151,936 and 152,064 rows for one Qwen tokenizer). Rows after
    the narrower head's name no token, and one head knows nothing of them.

    .. math:: \log p(v) - \log \sum_{u < n} p(u), \qquad \sum_{u \ge n} p(u)

    Where nothing is cut off, the log-probs are returned as they are. Where all mass lies on rows that are cut off,
    nothing is left to condition on and the result is nan.

    Args:
        log_probs: normalised over vocab.
        num_tokens: the narrower head's rows.

    Raises:
        ModelError: the distribution has fewer than `num_tokens` tokens.
    """
    vocab_size = log_probs.shape[-1]
    if not 1 <= num_tokens <= vocab_size:
        raise ModelError(
            f"{num_tokens} tokens are wanted of a distribution over {vocab_size}",
            why="the shared vocabulary is at most as wide as each of the two heads",
            fix="pass the narrower of the two vocabulary sizes",
        )
    log_probs = widened(log_probs)
    kept, dropped = log_probs[..., :num_tokens], log_probs[..., num_tokens:]
    if num_tokens == vocab_size:
        return SharedVocabulary(kept, log_probs.new_zeros(log_probs.shape[:-1]))
    return SharedVocabulary(log_softmax(kept), dropped.exp().sum(-1))
