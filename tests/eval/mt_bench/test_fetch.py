import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from distill.errors import DataError, EndpointError
from eval.mt_bench.fetch import Net, fetch_mt_bench, labels_of_parquet
from eval.mt_bench.sources import SOURCES, Home, Source

QUESTIONS = b'{"question_id": 1}\n'
VOTES = [
    {"question_id": 2, "turn": 1, "model_a": "x", "model_b": "y", "judge": "expert_1", "winner": "tie"},
    {"question_id": 1, "turn": 2, "model_a": "x", "model_b": "y", "judge": "expert_2", "winner": "model_a"},
]
LABELS = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in reversed(VOTES)).encode()


def parquet_of(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([{**row, "conversation_a": ["hello"]} for row in rows]), buffer)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


QUESTION_FILE = Source(
    "question.jsonl",
    "questions",
    "MIT",
    sha256(QUESTIONS),
    (Home("github", "some/one", "c" * 40, "q.jsonl"),),
    ("mt_bench/question.jsonl", "/question.jsonl"),
)
VOTE_FILE = Source(
    "human_judgments/human.jsonl",
    "votes",
    "CC-BY-4.0",
    sha256(LABELS),
    (Home("hub", "some/votes", "d" * 40, "human.parquet"), Home("github", "some/copy", "e" * 40, "human.jsonl")),
    ("human_judgments/human.jsonl",),
)
BOTH = (QUESTION_FILE, VOTE_FILE)
Q_PATH = f"/raw/some/one/{'c' * 40}/q.jsonl"
HUB_PATH = f"/hub/datasets/some/votes/resolve/{'d' * 40}/human.parquet"
COPY_PATH = f"/raw/some/copy/{'e' * 40}/human.jsonl"


class Site(ThreadingHTTPServer):
    """Serves `pages`; `faults` of a path are given first: a status, or `cut` for a reply that breaks off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        self.pages = {Q_PATH: QUESTIONS, HUB_PATH: parquet_of(VOTES), COPY_PATH: LABELS}
        self.faults: dict[str, list[int | str]] = {}
        self.asked: list[str] = []

    @property
    def net(self) -> Net:
        address = f"http://127.0.0.1:{self.server_port}"
        return Net(github_url=f"{address}/raw", hub_url=f"{address}/hub", timeout_s=5, pause_s=0)


class Pages(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        waiting = self.server.faults.get(self.path, [])
        fault = waiting.pop(0) if waiting else None
        if isinstance(fault, int) or self.path not in self.server.pages:
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        content = self.server.pages[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "*")
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_come_from_their_homes_and_stay(site: Site, tmp_path: Path):
    fetched = fetch_mt_bench(tmp_path, net=site.net, sources=BOTH)
    assert [item.status for item in fetched] == ["downloaded", "downloaded"]
    assert (tmp_path / "question.jsonl").read_bytes() == QUESTIONS
    assert (tmp_path / "human_judgments" / "human.jsonl").read_bytes() == LABELS
    listed = json.loads((tmp_path / "sources.json").read_text())["files"]
    assert listed["question.jsonl"]["licence"] == "MIT"
    again = fetch_mt_bench(tmp_path, net=site.net, sources=BOTH)
    assert [item.status for item in again] == ["kept", "kept"]
    assert site.asked == [Q_PATH, HUB_PATH]


def test_votes_come_from_their_other_home_where_the_hub_is_down(site: Site, tmp_path: Path):
    site.faults[HUB_PATH] = [404]
    fetched = fetch_mt_bench(tmp_path, net=site.net, sources=BOTH)
    assert fetched[1].origin == f"github:some/copy@{'e' * 12}"
    assert (tmp_path / "human_judgments" / "human.jsonl").read_bytes() == LABELS


@pytest.mark.parametrize("fault", [503, 429, "cut"])
def test_a_passing_fault_is_survived(site: Site, tmp_path: Path, fault: int | str):
    site.faults[Q_PATH] = [fault, fault]
    fetch_mt_bench(tmp_path, net=site.net, sources=(QUESTION_FILE,))
    assert (tmp_path / "question.jsonl").read_bytes() == QUESTIONS
    assert site.asked == [Q_PATH] * 3


@pytest.mark.parametrize(("faults", "tries"), [([503] * 9, 3), ([404], 1), (["cut"] * 9, 3)])
def test_a_lasting_fault_is_told_and_leaves_nothing(site: Site, tmp_path: Path, faults: list[int | str], tries: int):
    site.faults[Q_PATH] = faults
    with pytest.raises(EndpointError, match=r"question\.jsonl cannot be fetched: http") as told:
        fetch_mt_bench(tmp_path, net=site.net, sources=(QUESTION_FILE,))
    assert "--from DIR" in told.value.fix
    assert len(site.asked) == tries
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_no_route_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "*")
    nowhere = Net(github_url="http://127.0.0.1:1", hub_url="http://127.0.0.1:1", pause_s=0)
    with pytest.raises(EndpointError, match="why: .*refused"):
        fetch_mt_bench(tmp_path, net=nowhere, sources=(QUESTION_FILE,))


def test_what_was_fetched_before_a_failure_stays(site: Site, tmp_path: Path):
    site.faults = {HUB_PATH: [404], COPY_PATH: [404]}
    with pytest.raises(EndpointError, match="human.jsonl cannot be fetched"):
        fetch_mt_bench(tmp_path, net=site.net, sources=BOTH)
    site.faults = {}
    assert [item.status for item in fetch_mt_bench(tmp_path, net=site.net, sources=BOTH)] == ["kept", "downloaded"]


@pytest.mark.parametrize("path", [Q_PATH, HUB_PATH])
def test_a_wrong_checksum_is_named_and_nothing_is_written(site: Site, tmp_path: Path, path: str):
    site.pages[path] = b"<html>log in first</html>" if path == Q_PATH else parquet_of(VOTES[:1])
    target = QUESTION_FILE if path == Q_PATH else VOTE_FILE
    with pytest.raises(DataError, match=f"is not MT-Bench's {target.target}: sha256 ") as told:
        fetch_mt_bench(tmp_path, net=site.net, sources=(target,))
    assert target.sha256 in told.value.why
    assert not (tmp_path / target.target).exists()


def test_a_file_of_another_content_is_never_overwritten(site: Site, tmp_path: Path):
    (tmp_path / "question.jsonl").write_text("mine\n")
    with pytest.raises(DataError, match=r"question\.jsonl is in the way"):
        fetch_mt_bench(tmp_path, net=site.net, sources=BOTH)
    assert (tmp_path / "question.jsonl").read_text() == "mine\n"


def test_a_folder_in_fastchats_layout_is_read(tmp_path: Path):
    for name, content in (("data/mt_bench/question.jsonl", QUESTIONS), ("data/vicuna/question.jsonl", b"x")):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes(content)
    fetched = fetch_mt_bench(tmp_path / "out", from_dir=tmp_path / "in", sources=BOTH)
    assert [item.status for item in fetched] == ["copied", "absent"]
    assert (tmp_path / "out" / "question.jsonl").read_bytes() == QUESTIONS
    assert list(json.loads((tmp_path / "out" / "sources.json").read_text())["files"]) == ["question.jsonl"]


def test_a_folder_with_changed_files_or_none_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="is no folder"):
        fetch_mt_bench(tmp_path / "out", from_dir=tmp_path / "in", sources=BOTH)
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds none of MT-Bench's files"):
        fetch_mt_bench(tmp_path / "out", from_dir=tmp_path / "in", sources=BOTH)
    (tmp_path / "in" / "question.jsonl").write_bytes(QUESTIONS.replace(b"\n", b"\r\n"))
    with pytest.raises(DataError, match="is not MT-Bench's question.jsonl") as told:
        fetch_mt_bench(tmp_path / "out", from_dir=tmp_path / "in", sources=BOTH)
    assert "line-end" in told.value.fix


def test_a_file_of_votes_without_the_columns_is_refused():
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"question_id": [1]}), buffer)
    with pytest.raises(DataError, match="the hub's file of votes"):
        labels_of_parquet(buffer.getvalue())
    with pytest.raises(DataError, match="the hub's file of votes cannot be read"):
        labels_of_parquet(b"PAR1 broken")


def test_the_public_folder_is_read_whole(public_mt_bench: Path, tmp_path: Path):
    fetched = fetch_mt_bench(tmp_path, from_dir=public_mt_bench)
    assert [item.status for item in fetched] == ["copied"] * len(SOURCES)
    again = fetch_mt_bench(tmp_path / "again", from_dir=tmp_path)
    assert [item.status for item in again] == ["copied"] * len(SOURCES)


def test_public_votes_made_from_a_parquet_file_have_the_known_checksum(public_mt_bench: Path):
    source = next(source for source in SOURCES if source.target.endswith("human.jsonl"))
    rows = [json.loads(line) for line in (public_mt_bench / source.target).read_text().splitlines()]
    assert sha256(labels_of_parquet(parquet_of(rows[::-1]))) == source.sha256
