"""A judge behind an OpenAI-compatible server: several calls at once, paced, and stopped when it does not help to go on.

Overload, broken connections and timeouts are repeated by the client, with growing pauses or after the time that the
server names; what still fails is a failed call, and so is a request that the server finds fault with. A refused key,
address or model ends the run, and so do a number of failures in a row, or a few refusals before the first answer:
what was answered by then is handed on before.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from urllib.parse import urlsplit

from distill.decoding.endpoint_client import CHAT, EndpointClient, fault_of
from distill.errors import EndpointError
from eval.judges.base import JudgeReply
from eval.judges.chat_request import ChatJudgeSettings, chat_body, reply_from, sampling_body
from eval.judges.pacing import Bucket
from eval.mt_bench.judging_cost import num_prompt_tokens
from eval.mt_bench.matches import Match

log = logging.getLogger(__name__)

SECTION = "judge.endpoint"
OLD_CAP, NEW_CAP = "max_tokens", "max_completion_tokens"
REFUSALS_AT_FIRST = 5
"""Requests refused in a row before any answer, after which every request is taken to meet the same."""

_STOPPED = "the run was stopped before this was asked"

Outcome = JudgeReply | EndpointError


class EndpointJudge:
    """Asks a server's model; see `eval.judges.base.Judge`.

    Args:
        settings: where, how sampled, how fast.
        name: names the judgment files; the model's by default.

    Raises:
        EndpointError: the key's environment variable is not set.
    """

    def __init__(self, settings: ChatJudgeSettings, *, name: str | None = None) -> None:
        self.settings, self.name = settings, name or settings.model
        self._client = EndpointClient(settings, section=SECTION)
        self._cap = OLD_CAP
        self._has_answered, self._num_refusals = False, 0  # over all calls of `judge`: a budget asks in small blocks
        self._limits = [
            None if limit is None else Bucket(limit)
            for limit in (settings.requests_per_minute, settings.tokens_per_minute)
        ]

    @property
    def identity(self) -> Mapping[str, object]:
        """The server's host and the sampling: two hosts may serve two models under one name."""
        return {"kind": "endpoint", "host": urlsplit(self.settings.base_url).hostname, **self.settings.sampling}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies as they come in, `max_concurrent` at a time.

        Raises:
            EndpointError: the server refuses, or too many calls failed in a row.
        """
        stop, waiting = threading.Event(), iter(range(len(matches)))
        running: dict[Future[Outcome], int] = {}
        fatal: EndpointError | None = None
        num_failures = 0
        pool = ThreadPoolExecutor(self.settings.max_concurrent, thread_name_prefix="judge")
        try:
            while True:
                while fatal is None and len(running) < self.settings.max_concurrent:
                    index = next(waiting, None)
                    if index is None:
                        break
                    running[pool.submit(self._outcome, matches[index], stop)] = index
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(finished, key=running.__getitem__):
                    index, outcome = running.pop(future), future.result()
                    reply = outcome if isinstance(outcome, JudgeReply) else _failed(outcome)
                    if isinstance(outcome, EndpointError) and fault_of(outcome) == "lasting":
                        fatal = fatal or outcome
                        stop.set()
                        continue
                    if not reply.error:
                        num_failures, self._has_answered = 0, True
                    elif reply.error != _STOPPED:
                        num_failures += 1
                        self._num_refusals = self._num_refusals + 1 if reply.is_refused else 0
                    if fatal is None and self._num_refusals >= REFUSALS_AT_FIRST and not self._has_answered:
                        fatal, self._num_refusals = self._refused_all(self._num_refusals, reply), 0
                        stop.set()
                    if fatal is None and num_failures >= self.settings.max_consecutive_failures:
                        fatal = self._given_up(num_failures, reply)
                        stop.set()
                    if reply.error != _STOPPED:
                        yield index, reply
            if fatal is not None:
                raise fatal
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, match: Match, stop: threading.Event) -> Outcome:
        """The reply to a match, with a second try of twice the length where the first was cut off."""
        try:
            reply = self._asked(match, stop, cap=self.settings.max_tokens)
        except EndpointError as error:
            return error
        if reply.finish_reason != "length":
            return reply
        log.info("question %d: the judge was cut off; asked with twice the length", match.question.question_id)
        try:
            again = self._asked(match, stop, cap=2 * self.settings.max_tokens)
        except EndpointError as error:
            if fault_of(error) == "lasting":
                return error
            # A server may refuse the greater length; whatever else fails now, the first try was answered, and is paid.
            return reply if fault_of(error) == "of the request" else _failed(error)
        if again.error is not None:
            return again
        return replace(
            again,
            num_prompt_tokens=_sum(reply.num_prompt_tokens, again.num_prompt_tokens),
            num_completion_tokens=_sum(reply.num_completion_tokens, again.num_completion_tokens),
        )

    def _asked(self, match: Match, stop: threading.Event, *, cap: int) -> JudgeReply:
        for limit, amount in zip(self._limits, (1, num_prompt_tokens(match) + cap), strict=True):
            if limit is not None:
                stop.wait(limit.take(amount))
        if stop.is_set():
            return JudgeReply("", error=_STOPPED)
        while True:
            name = self._cap
            body = {**chat_body(self.settings, match), name: cap}
            try:
                reply = self._client.post(CHAT, body, neutral=sampling_body(self.settings, match))
            except EndpointError as error:
                if name == OLD_CAP and fault_of(error) == "of the request" and NEW_CAP in error.why:
                    log.warning("%s wants %s in place of %s", self.settings.base_url, NEW_CAP, OLD_CAP)
                    self._cap = NEW_CAP
                    continue
                raise
            return replace(reply_from(reply), left_out=tuple(sorted(self._client.unknown_fields)))

    def _refused_all(self, num_refusals: int, reply: JudgeReply) -> EndpointError:
        return EndpointError(
            f"the first {num_refusals} calls of {self.name} were all refused, and none was answered",
            why=f"every other would be refused, too. The last: {reply.error}",
            fix="mend what the server names, then run the same command with --retry-failed",
        )

    def _given_up(self, num_failures: int, reply: JudgeReply) -> EndpointError:
        return EndpointError(
            f"{num_failures} calls of {self.name} failed in a row",
            why=f"the last: {reply.error}",
            fix="look at the server, then run the same command with --retry-failed: what is judged is kept",
        )


def _failed(error: EndpointError) -> JudgeReply:
    return JudgeReply("", error=f"{error.what}: {error.why}", is_refused=fault_of(error) == "of the request")


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
