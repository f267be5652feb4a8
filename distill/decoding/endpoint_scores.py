"""Log-probs of given sequences from a server, checked token by token against what was sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data.sequences import TokenizedSequence
from distill.decoding.endpoint_client import COMPLETIONS, EndpointClient, EndpointSettings
from distill.decoding.endpoint_replies import from_echo, from_prompt_log_probs, likeliest
from distill.decoding.endpoint_tokens import TokenNames
from distill.errors import EndpointError
from distill.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class EndpointScores:
    """What a server says of one sequence's completion tokens; log-probs in nats, lists likeliest first."""

    token_log_probs: Float[Tensor, " sequence"]
    top_ids: Int[Tensor, "sequence top"]
    top_log_probs: Float[Tensor, "sequence top"]


class EndpointScorer:
    """Scores sequences with the model of a server.

    The whole sequence is sent as token ids. Every token that comes back has to be the one that was sent, by id where
    the server names ids and by text elsewhere: a server with another tokenizer, or one that puts a token in front,
    is refused.

    Args:
        settings: where the server is, and how it is asked for log-probs.
        tokenizer: the teacher's.
        vocab_size: every id that the server lists is below it.

    Raises:
        EndpointError: the key's environment variable is not set.
    """

    def __init__(self, settings: EndpointSettings, tokenizer: Tokenizer, *, vocab_size: int) -> None:
        self.client, self._log_probs_by = EndpointClient(settings), settings.logprobs
        self._names = TokenNames(tokenizer)
        self._vocab_size = vocab_size

    def score(self, sequences: Sequence[TokenizedSequence], *, k: int) -> list[EndpointScores]:
        """Scores of each sequence's completion, in the order of the sequences.

        Args:
            sequences: prompts with completions; a prompt has at least one token.
            k: how many of the likeliest tokens are listed at each position; 0 lists none.

        Raises:
            EndpointError: the server does not answer, gives no log-probs or too few, gives numbers that are no
                log-probs, or speaks of other tokens.
        """
        return self.client.in_order(lambda sequence: self._scores(sequence, k=k), sequences)

    def _scores(self, sequence: TokenizedSequence, *, k: int) -> EndpointScores:
        ids = [*sequence.prompt_ids, *sequence.completion_ids]
        reply = self._asked(ids, k=max(k, 1))
        read = from_echo if self._log_probs_by == "echo" else from_prompt_log_probs
        try:
            positions = read(reply, ids, start=len(sequence.prompt_ids), names=self._names, has_lists=k > 0)
            lists = [likeliest(found.listed, k=k, vocab_size=self._vocab_size) if k else [] for found in positions]
        except EndpointError as error:
            name = f"sequence {sequence.sequence_id[:12]}: "
            raise self.client.unusable(COMPLETIONS, name + error.what, fix=error.fix) from error
        top_ids = [token for row in lists for token, _ in row]
        top_log_probs = [value for row in lists for _, value in row]
        return EndpointScores(
            torch.tensor([found.log_prob for found in positions], dtype=torch.float32),
            torch.tensor(top_ids, dtype=torch.int64).view(len(positions), k),
            torch.tensor(top_log_probs, dtype=torch.float32).view(len(positions), k),
        )

    def _asked(self, ids: Sequence[int], *, k: int) -> dict[str, Any]:
        """One token is generated and not looked at: not every server takes max_tokens=0."""
        body: dict[str, object] = {"prompt": list(ids), "max_tokens": 1, "temperature": 1.0}
        if self._log_probs_by == "echo":
            body |= {"echo": True, "logprobs": k}
        else:
            body |= {"prompt_logprobs": k}
        neutral = {"return_tokens_as_token_ids": True, "return_token_ids": True}
        return self.client.post(COMPLETIONS, body, neutral=neutral)
