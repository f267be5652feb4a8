"""A chat server that judges by script, in a thread: it refuses, stalls, hangs up, or talks nonsense when told to."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What the server does in place of an answer.

    `status` with `message` and `headers`; `raw`: this body with status 200; `hangs_up`: closes the connection
    without a word; `delay_s`: answers as it should, but late.
    """

    status: int = 200
    message: str = "later"
    headers: Mapping[str, str] = field(default_factory=lambda: {"retry-after-ms": "1"})
    raw: str | None = None
    hangs_up: bool = False
    delay_s: float = 0.0


@dataclass
class JudgeServer:
    """The server's script and its memory.

    Attributes:
        faults: done to the next requests, first to last.
        refusal: the words with which a body is refused (400), or None.
        reply: content and finish reason for a body.
        usage: tokens that it says it read and wrote for a body.
        requests: bodies that came, in order.
    """

    faults: list[Fault] = field(default_factory=list)
    refusal: Callable[[dict[str, Any]], str | None] = lambda body: None
    reply: Callable[[dict[str, Any]], tuple[object, str]] = lambda body: ("Fine.\n\nRating: [[7]]", "stop")
    usage: Callable[[dict[str, Any]], dict[str, int]] = lambda body: {"prompt_tokens": 50, "completion_tokens": 10}
    requests: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, body: dict[str, Any]) -> tuple[Fault, dict[str, Any]]:
        with self._lock:
            self.requests.append(body)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            fault = self.faults.pop(0) if self.faults else Fault()
        time.sleep(fault.delay_s)
        with self._lock:
            self._now -= 1
        words = self.refusal(body)
        if words is not None and fault.status == 200:
            fault = Fault(400, words)
        content, reason = self.reply(body)
        return fault, {
            "model": "judge-2024",
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}],
            "usage": self.usage(body),
        }


@contextmanager
def judging_server() -> Iterator[JudgeServer]:
    """The server on a free port of the loopback, as long as the block runs."""
    server = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fault, reply = server.answered(body)
            if fault.hangs_up:
                self.close_connection = True
                return
            if fault.status != 200:
                reply = {"error": {"message": fault.message, "type": "x", "code": fault.status}}
            data = (json.dumps(reply) if fault.raw is None else fault.raw).encode()
            try:
                self.send_response(fault.status)
                for name, value in {
                    "content-type": "application/json",
                    **(fault.headers if fault.status != 200 else {}),
                }.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
