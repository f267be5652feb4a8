"""What a completions reply says of the tokens that were sent; pure, and trusts nothing in the reply."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.decoding.endpoint_tokens import TokenNames
from distill.errors import EndpointError

# What rounding may put above log 1, and above 1 in a sum of probabilities.
ROUNDING = 1e-3
_NO_LOG_PROBS = (
    "serve the teacher with vLLM, try teacher.endpoint.logprobs=prompt_logprobs, "
    "or load the weights here: a teacher.path without teacher.endpoint"
)
_OTHER_TOKENS = "serve the model with the tokenizer of teacher.path, and without a token put in front of prompts"
_TOO_FEW = "list fewer tokens (k of tier top-k), or let the server list more (vLLM: --max-logprobs)"


@dataclass(frozen=True)
class ScoredPosition:
    """The log-prob of a token that was sent, and of those that the server lists in its place, by our ids."""

    log_prob: float
    listed: Mapping[int, float]


def from_echo(
    reply: Mapping[str, Any], ids: Sequence[int], *, start: int, names: TokenNames, has_lists: bool
) -> list[ScoredPosition]:
    """The echo of the completions API: tokens, token_logprobs and top_logprobs.

    Args:
        reply: the server's.
        ids: what was sent.
        start: the first position that is read, at least 1: nothing predicts the first token.
        names: of the tokens.
        has_lists: whether `listed` is read; where not, it is empty.

    Raises:
        EndpointError: the reply holds no log-probs, or those of other tokens.
    """
    choice = _choice(reply)
    _require_prompt_ids(choice, ids)
    found = choice.get("logprobs")
    if not isinstance(found, Mapping):
        raise _unusable("it holds no log-probs", _NO_LOG_PROBS)
    tokens, own, listed = found.get("tokens"), found.get("token_logprobs"), found.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(own, list) or len(own) != len(tokens):
        raise _unusable("it holds no log-probs of tokens", _NO_LOG_PROBS)
    if len(tokens) < len(ids):
        raise _unusable(
            f"it holds log-probs of {len(tokens)} tokens, and {len(ids)} were sent: the server knows no echo",
            _NO_LOG_PROBS,
        )
    if not has_lists:
        listed = [{}] * len(tokens)
    elif not isinstance(listed, list) or len(listed) != len(tokens):
        raise _unusable("it lists no likeliest tokens (top_logprobs)", _NO_LOG_PROBS)
    for position, token_id in enumerate(ids):
        if not names.is_name_of(str(tokens[position]), token_id):
            raise _unusable(
                f"token {position} is {tokens[position]!r} to the server, and {names.text_of(token_id)!r} "
                f"(id {token_id}) was sent",
                _OTHER_TOKENS,
            )
    if len(tokens) > len(ids) + 1:
        raise _unusable(
            f"it holds log-probs of {len(tokens)} tokens, and {len(ids)} were sent and one generated", _OTHER_TOKENS
        )
    return [
        ScoredPosition(_log_prob(own[position], position), _named(listed[position], position, names=names))
        for position in range(start, len(ids))
    ]


def from_prompt_log_probs(
    reply: Mapping[str, Any], ids: Sequence[int], *, start: int, names: TokenNames, has_lists: bool
) -> list[ScoredPosition]:
    """vLLM's prompt_logprobs: at each position a mapping of token ids to log-probs, the sent token among them.

    Arguments are those of `from_echo`. That the tokens are ours is known from `return_token_ids`, else from their
    number and from each being among those that are told of.

    Raises:
        EndpointError: the reply holds no log-probs, or those of other tokens.
    """
    choice = _choice(reply)
    _require_prompt_ids(choice, ids)
    rows = choice.get("prompt_logprobs")
    if not isinstance(rows, list):
        raise _unusable("it holds no prompt_logprobs", _NO_LOG_PROBS)
    if len(rows) != len(ids):
        raise _unusable(f"it scores {len(rows)} tokens, and {len(ids)} were sent", _OTHER_TOKENS)
    positions = []
    for position in range(start, len(ids)):
        listed, token_id = _by_id(rows[position], position), ids[position]
        if token_id not in listed:
            raise _unusable(
                f"it says nothing of token {position}, {names.text_of(token_id)!r} (id {token_id})", _OTHER_TOKENS
            )
        positions.append(ScoredPosition(listed[token_id], listed if has_lists else {}))
    return positions


def likeliest(listed: Mapping[int, float], *, k: int, vocab_size: int) -> list[tuple[int, float]]:
    """The k likeliest of the listed tokens, likeliest first; of equals the lower id.

    A server lists the k likeliest and the token itself where it is not among them, so up to k + 1.

    Raises:
        EndpointError: fewer are listed, one is outside the vocabulary, or they weigh more than 1 together.
    """
    if len(listed) < k:
        raise _unusable(f"it lists {len(listed)} tokens at a position, and {k} were asked for", _TOO_FEW)
    if max(listed) >= vocab_size:
        raise _unusable(f"it lists token id {max(listed)}, and the vocabulary has {vocab_size} tokens", _OTHER_TOKENS)
    chosen = sorted(listed.items(), key=lambda entry: (-entry[1], entry[0]))[:k]
    total = math.fsum(math.exp(value) for _, value in chosen)
    if total > 1 + ROUNDING:
        raise _unusable(f"the probabilities it lists at a position sum to {total:.3f}")
    return chosen


def _choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise _unusable("it does not hold one choice")
    return choices[0]


def _require_prompt_ids(choice: Mapping[str, Any], ids: Sequence[int]) -> None:
    """Refuses a server that says it read other ids; many do not say."""
    read = choice.get("prompt_token_ids")
    if read is not None and read != list(ids):
        raise _unusable("the server read other token ids than were sent", _OTHER_TOKENS)


def _named(row: object, position: int, *, names: TokenNames) -> dict[int, float]:
    """A list of tokens by name, with our ids in their place."""
    if not isinstance(row, Mapping):
        raise _unusable(f"what it lists at token {position} is no mapping")
    found: dict[int, float] = {}
    for name, value in row.items():
        token_id = names.id_of(str(name))
        if token_id is None:
            raise _unusable(
                f"it lists {name!r} at token {position}, which names no token or more than one of ours",
                "serve with vLLM, which can name tokens by id; tier scores alone can do without such lists",
            )
        found[token_id] = _log_prob(value, position)
    return found


def _by_id(row: object, position: int) -> dict[int, float]:
    if not isinstance(row, Mapping) or not all(str(key).isdecimal() for key in row):
        raise _unusable(f"what it says of token {position} is no mapping of token ids", _NO_LOG_PROBS)
    values = ((int(key), entry.get("logprob") if isinstance(entry, Mapping) else entry) for key, entry in row.items())
    return {token_id: _log_prob(value, position) for token_id, value in values}


def _log_prob(value: object, position: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unusable(f"the log-prob of token {position} is {value!r:.40}", _NO_LOG_PROBS)
    if not math.isfinite(value) or value > ROUNDING:
        raise _unusable(f"the log-prob of token {position} is {value}, which is no finite number at most 0")
    return min(float(value), 0.0)


def _unusable(problem: str, fix: str = "") -> EndpointError:
    """The caller knows which server and which sequence."""
    return EndpointError(problem, fix=fix)
