"""What a judge is: something that answers matches, in whatever order it finishes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from distill.files import fingerprint

if TYPE_CHECKING:
    from eval.mt_bench.matches import Match
    from eval.mt_bench.verdicts import Verdict


@dataclass(frozen=True)
class JudgeReply:
    """What came of one match.

    Attributes:
        text: the judge's words; empty where it has none.
        finish_reason: `length` where the words were cut off, which leaves no verdict.
        verdict: of a judge that writes none; None: it is read from the text.
        model: who answered, by its own account.
        system_fingerprint: the server's, where it tells.
        num_prompt_tokens: over all tries that this reply took; None where the server does not tell.
        num_completion_tokens: the same.
        error: why there is no reply; such a match has failed and may be asked again.
        left_out: request fields that the server refused and was asked without.
        is_refused: with an `error`: the server found fault with the request itself, and did nothing for it.
    """

    text: str
    finish_reason: str | None = None
    verdict: "Verdict | None" = None
    model: str = ""
    system_fingerprint: str | None = None
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    error: str | None = None
    left_out: tuple[str, ...] = ()
    is_refused: bool = False


class Judge(Protocol):
    """Anything that judges matches."""

    @property
    def name(self) -> str:
        """Names the judgment files and stands in their rows."""
        ...

    @property
    def identity(self) -> Mapping[str, object]:
        """All that decides its verdicts, as JSON: goes into the key of every call."""
        ...

    def judge(self, matches: "Sequence[Match]") -> "Iterator[tuple[int, JudgeReply]]":
        """Each match's index with its reply, in the order in which they finish.

        A match that cannot be answered now has a reply with an `error`; one that is not to be answered at all (a
        result that is not there yet) may be left out.

        Raises:
            EndpointError: no match can be answered any more; what was finished has been yielded before.
        """
        ...


def call_key(judge: Judge, match: "Match") -> str:
    """The name of a call: the same judge, asked the same of the same models for the same time, has the same key.

    The models are part of it: two with the same answer have a verdict each, and so have both orders of a pair.
    """
    messages = [message.to_json() for message in match.messages]
    place = [match.question.question_id, match.question.system, match.turn, list(match.models)]
    return fingerprint([dict(judge.identity), place, messages, match.reference_set, match.repeat])
