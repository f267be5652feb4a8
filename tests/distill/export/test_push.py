"""Uploads to a real server on this machine that speaks the hub's protocol; nothing leaves it."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from distill.cli_package import push_folder
from distill.errors import ArtefactError, ExportError, RecipeError
from distill.export.checksums import write_checksums
from distill.export.push import plan_push, push, rows
from distill.files import write_json

TOKEN = "hf_of_nobody"


class Hub(BaseHTTPRequestHandler):
    """The hub's addresses that a commit needs: create, info, validate-yaml, preupload, the large files, commit."""

    protocol_version = "HTTP/1.1"

    def _reply(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.seen["paths"].append(self.path)
        if self.path == "/api/models/me/tiny" and self.server.exists:
            return self._reply({"_id": "1", "id": "me/tiny", "private": self.server.is_private})
        return self._reply({"error": self.path}, 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen, address = self.server.seen, f"http://127.0.0.1:{self.server.server_port}"
        seen["paths"].append(self.path)
        seen["tokens"].add(self.headers.get("Authorization"))
        status = next((code for part, code in self.server.refuses.items() if part in self.path), None)
        if status is not None:
            return self._reply({"error": f"no, {TOKEN}"}, status)
        if self.path == "/api/repos/create":
            seen["created"], self.server.exists = json.loads(body), True
            return self._reply({"url": f"{address}/me/tiny"})
        if self.path == "/api/validate-yaml":
            return self._reply({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = [row["path"] for row in json.loads(body)["files"]]
            modes = [
                {"path": name, "uploadMode": "lfs" if name.endswith(".gguf") else "regular", "shouldIgnore": False}
                for name in files
            ]
            return self._reply({"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**row, "actions": {"upload": {"href": f"{address}/lfs/{row['oid']}"}}}
                for row in json.loads(body)["objects"]
            ]
            return self._reply({"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    seen["files"][row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                elif row["key"] == "lfsFile":
                    seen["files"][row["value"]["path"]] = seen["large"][row["value"]["oid"]]
            return self._reply({"commitUrl": f"{address}/me/tiny/commit/1", "commitOid": "1", "success": True})
        return self._reply({"error": self.path}, 404)

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen["large"][hashlib.sha256(data).hexdigest()] = data
        self._reply({})

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # large files go by git-lfs then
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen = {"paths": [], "files": {}, "large": {}, "tokens": set()}
    server.refuses, server.is_private, server.exists = {}, True, False
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def make(folder, **lineage):
    folder.mkdir()
    (folder / "model-q8_0.gguf").write_bytes(b"weights")
    (folder / "README.md").write_text("# card\n")
    write_json(folder / "export.lock.json", {"inputs": {"lineage": lineage}})
    write_checksums(folder)
    return folder


@pytest.fixture
def artefact(tmp_path):
    return make(tmp_path / "gguf-q8_0", **{"teacher's licence": "mit", "licence": "mit"})


def test_a_plan_lists_every_file_its_size_and_the_total(artefact):
    plan = plan_push(artefact, repo_id="me/tiny")
    assert plan.sizes["model-q8_0.gguf"] == 7
    assert set(plan.sizes) == {"model-q8_0.gguf", "README.md", "export.lock.json", "SHA256SUMS"}
    assert plan.size_bytes == sum(path.stat().st_size for path in artefact.iterdir())
    assert {"file": "README.md", "size_bytes": 7} in rows(plan)
    assert rows(plan)[-1] == {"file": "total", "size_bytes": plan.size_bytes}


def test_without_yes_the_command_prints_the_plan_and_asks_no_server(artefact, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    push_folder([str(artefact), "me/tiny"], yes=False, public=False, as_json=True)
    assert hub.seen["paths"] == []
    shown = capsys.readouterr()
    assert json.loads(shown.out)[-1]["file"] == "total"
    assert "nothing was sent; --yes sends it, to a repository that only you can see" in shown.err


def test_with_yes_the_command_sends_and_shows_no_token(artefact, hub, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", hub.address, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    push_folder([str(artefact), "me/tiny"], yes=True, public=False, as_json=False)
    shown = capsys.readouterr()
    assert "/me/tiny/commit/1" in shown.err
    assert TOKEN not in shown.out + shown.err
    assert hub.seen["tokens"] == {f"Bearer {TOKEN}"}


def test_what_arrives_is_what_was_planned(artefact, hub):
    plan = plan_push(artefact, repo_id="me/tiny")
    url = push(plan, endpoint=hub.address)
    assert url.endswith("/commit/1")
    assert hub.seen["files"] == {name: (artefact / name).read_bytes() for name in plan.sizes}
    assert len(hub.seen["large"]) == 1


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repository_is_private_unless_told_otherwise(artefact, hub, private):
    push(plan_push(artefact, repo_id="me/tiny"), private=private, endpoint=hub.address)
    created = hub.seen["created"]
    assert (created.get("private") is True or created.get("visibility") == "private") == private


def test_a_public_repository_gets_nothing_unless_told_so(artefact, hub):
    hub.is_private = False
    with pytest.raises(RecipeError, match="me/tiny is public"):
        push(plan_push(artefact, repo_id="me/tiny"), endpoint=hub.address)
    assert hub.seen["files"] == {}
    push(plan_push(artefact, repo_id="me/tiny"), private=False, endpoint=hub.address)
    assert hub.seen["files"]


@pytest.mark.parametrize(
    ("status", "fix"),
    [(401, "hf auth login"), (403, "may write to me "), (404, "check the name me/tiny"), (500, "push again")],
)
@pytest.mark.parametrize("part", ["/repos/create", "/commit/"])
def test_a_hub_that_refuses_is_told_on_without_the_token(artefact, hub, part, status, fix):
    hub.refuses = {part: status}
    with pytest.raises(ExportError, match=r"me/tiny was not pushed") as caught:
        push(plan_push(artefact, repo_id="me/tiny"), endpoint=hub.address)
    assert fix in caught.value.fix
    assert str(status) in caught.value.why
    assert TOKEN not in str(caught.value)
    assert hub.seen["files"] == {}
    assert caught.value.exit_code == 1


def test_a_hub_that_is_not_there_is_told_on(artefact, hub):
    """A port that nobody listens on."""
    with pytest.raises(ExportError, match=r"me/tiny was not pushed to http://127\.0\.0\.1:9"):
        push(plan_push(artefact, repo_id="me/tiny"), endpoint="http://127.0.0.1:9")


def test_offline_is_told_so(artefact, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError, match="(?i)offline"):
        push(plan_push(artefact, repo_id="me/tiny"), endpoint=hub.address)


@pytest.mark.parametrize(
    ("lineage", "warned"),
    [({}, ["teacher's licence", "no licence"]), ({"teacher's licence": "mit"}, ["no licence"]), (None, ["not known"])],
)
def test_what_the_lineage_leaves_open_is_warned_of(tmp_path, lineage, warned):
    folder = make(tmp_path / "gguf-q8_0", **(lineage or {}))
    if lineage is None:
        (folder / "export.lock.json").unlink()
        write_checksums(folder)
    warnings = plan_push(folder, repo_id="me/tiny").warnings
    assert len(warnings) == len(warned)
    assert all(word in warning for word, warning in zip(warned, warnings, strict=True))


def test_a_named_lineage_warns_of_nothing(artefact):
    assert plan_push(artefact, repo_id="me/tiny").warnings == ()


def test_a_damaged_artefact_is_not_pushed(artefact):
    (artefact / "model-q8_0.gguf").write_bytes(b"weightz")
    with pytest.raises(ArtefactError, match=r"model-q8_0\.gguf has changed"):
        plan_push(artefact, repo_id="me/tiny")


def test_a_file_that_is_not_listed_is_not_pushed(artefact):
    (artefact / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"notes\.txt is not in SHA256SUMS"):
        plan_push(artefact, repo_id="me/tiny")


def test_a_pickle_is_not_pushed(artefact):
    (artefact / "optimizer.pt").write_bytes(b"")
    write_checksums(artefact)
    with pytest.raises(ArtefactError, match=r"optimizer\.pt may be a pickle"):
        plan_push(artefact, repo_id="me/tiny")


def test_an_artefact_without_a_card_is_not_pushed(artefact):
    (artefact / "README.md").unlink()
    write_checksums(artefact)
    with pytest.raises(ArtefactError, match="has no model card"):
        plan_push(artefact, repo_id="me/tiny")


def test_a_whole_export_is_not_pushed(artefact):
    (artefact.parent / "checks.json").write_text("{}")
    with pytest.raises(RecipeError, match="is a whole export"):
        plan_push(artefact.parent, repo_id="me/tiny")


@pytest.mark.parametrize("name", ["a b/c", "me/tiny/more", ""])
def test_a_name_that_is_none_is_refused(artefact, name):
    with pytest.raises(RecipeError, match="is no hub repository"):
        plan_push(artefact, repo_id=name)
