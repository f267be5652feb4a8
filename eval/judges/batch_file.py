"""Judging through files: requests in the form of OpenAI's Batch API out, results in, days apart if need be."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl
from eval.judges.base import JudgeReply, call_key
from eval.judges.chat_request import ChatJudgeSettings, chat_body, reply_from, sampling_body
from eval.mt_bench.matches import Match

log = logging.getLogger(__name__)

URL = "/v1/chat/completions"


class BatchJudge:
    """Answers from result files of a batch; see `eval.judges.base.Judge`.

    Matches that no file answers are left unanswered, so that partial results can be taken in as they come.

    Args:
        settings: the model and its sampling; where the server is does not count.
        results: files of results and of errors, as the API gives them; none yet while requests are written.
        name: names the judgment files; the model's by default.

    Raises:
        DataError: a file is missing, or a line is no result; names file and line.
    """

    def __init__(self, settings: ChatJudgeSettings, *, results: Sequence[Path] = (), name: str | None = None) -> None:
        self.settings, self.name = settings, name or settings.model
        self._replies: dict[str, JudgeReply] = {}
        for path in results:
            for number, row in read_jsonl(path):
                key, reply = _result(row, where=f"{path}:{number}")
                if key not in self._replies or reply.error is None:
                    self._replies[key] = reply

    @property
    def identity(self) -> Mapping[str, object]:
        """The model and its sampling."""
        return {"kind": "batch", **self.settings.sampling}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies at once, in the order of the matches; what the files lack is left out."""
        replies = ((index, self._replies.get(call_key(self, match))) for index, match in enumerate(matches))
        num_absent = 0
        for index, reply in replies:
            if reply is None:
                num_absent += 1
            else:
                yield index, reply
        if num_absent:
            log.warning("the batch's results lack %d of %d matches", num_absent, len(matches))

    def write_requests(self, matches: Mapping[str, Match], path: Path) -> int:
        """Writes the requests for `pending_matches(...)`, one a line; returns how many."""
        settings = self.settings
        return write_jsonl(
            path,
            (
                {
                    "custom_id": key,
                    "method": "POST",
                    "url": URL,
                    "body": {
                        "model": settings.model,
                        **chat_body(settings, match),
                        **sampling_body(settings, match),
                        "max_tokens": settings.max_tokens,
                    },
                }
                for key, match in matches.items()
            ),
        )


def _result(row: Mapping[str, object], *, where: str) -> tuple[str, JudgeReply]:
    key, response, error = row.get("custom_id"), row.get("response"), row.get("error")
    if not isinstance(key, str) or ("response" not in row and "error" not in row):
        raise DataError(
            f"{where} is no result of a batch",
            why="custom_id and response or error are needed",
            fix="name the output file or the error file of the batch, not its input",
        )
    if not isinstance(response, Mapping):
        return key, JudgeReply("", error=f"the batch reports: {error!r:.200}")
    body, status = response.get("body"), response.get("status_code")
    if status != 200 or not isinstance(body, Mapping):
        return key, JudgeReply("", error=f"the batch reports status {status}: {body!r:.200}")
    return key, reply_from(body)
