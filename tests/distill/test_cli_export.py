import json
from pathlib import Path

import pytest

from distill.cli_export import export_folder, require_no_options
from distill.data import CHAT_TEMPLATE, Conversation, Message, write_conversations
from distill.errors import GateError, RecipeError
from distill.files import read_json
from distill.models import ScratchSettings, new_model, save_model, train_tokenizer

TEXT = "one tea please, that is three dollars"
SHAPE = ScratchSettings(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_length_tokens=256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, held-out chats, and later `out`, which the tests export to one after the other."""
    folder = tmp_path_factory.mktemp("cli-export")
    tokenizer = train_tokenizer([TEXT] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)
    save_model(new_model(SHAPE, tokenizer, seed=0), tokenizer, folder / "model")
    chats = [
        Conversation(name, (Message("user", f"{name}?"), Message("assistant", f"{TEXT}, {name}"))) for name in "abc"
    ]
    write_conversations(folder / "chats.jsonl", chats)
    return folder


def words(folder: Path, *more: object) -> list[object]:
    return ["export", folder / "model", "--formats", "gguf-q4_0", "--out", folder / "out", *more]


@pytest.mark.slow
def test_an_export_tells_what_it_made_and_gates_hold_it_to_account(command, folder: Path):
    """The second and the third command find the artefacts of the first."""
    code, out, _ = command(*words(folder, "--chats", folder / "chats.jsonl", "--json"))
    assert code == 0
    rows = {row["format"]: row for row in json.loads(out)}
    report = read_json(folder / "out" / "report.json")
    assert list(rows) == sorted(report, reverse=True) == ["safetensors", "gguf-q4_0"]
    assert rows["gguf-q4_0"]["kl_nats"] == report["gguf-q4_0"]["fidelity"]["kl_nats"] > 0
    assert rows["gguf-q4_0"]["recommended_as"] == report["gguf-q4_0"]["recommended_as"] != []
    assert all(row["cost"]["load_s"] > 0 for row in report.values())
    assert (folder / "out" / "gguf-q4_0" / "model-q4_0.gguf").exists()

    (folder / "out" / "report.json").unlink()
    gates = ["--max-kl", "1e-9", "--min-top1", "1.0"]
    code, out, err = command(*words(folder, "--chats", folder / "chats.jsonl", *gates))
    assert (code, out) == (3, "")
    assert "gguf-q4_0 has KL" in err
    assert "gguf-q4_0: kept" in err
    assert read_json(folder / "out" / "report.json") == report

    code, out, _ = command(*words(folder, "--chats", folder / "chats.jsonl", "--max-kl", "1"))
    assert code == 0
    assert "nearest in at most" in out
    assert f"measured on {report['gguf-q4_0']['cost']['hardware']}" in out
    assert f"report: {folder / 'out' / 'report.html'}" in out


@pytest.mark.parametrize("line", ["{not json", '{"id": "x", "messages": []}'])
def test_chats_with_a_wrong_line_are_refused_by_file_and_line(command, folder: Path, tmp_path: Path, line: str):
    whole = (folder / "chats.jsonl").read_text(encoding="utf-8")
    (tmp_path / "chats.jsonl").write_text(f"{whole}{line}\n", encoding="utf-8")
    code, _, err = command(
        "export",
        folder / "model",
        "--formats",
        "gguf-f16",
        "--out",
        tmp_path / "out",
        "--chats",
        tmp_path / "chats.jsonl",
    )
    assert code == 2
    assert f"{tmp_path / 'chats.jsonl'}:4" in err
    assert not (tmp_path / "out").exists()


def test_a_gate_without_chats_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="--max-kl is given, but no held-out conversations"):
        export_folder(
            "model", None, formats="gguf-q8_0", out=tmp_path, measured={"max_kl": 0.1, "chats": None}, as_json=False
        )


@pytest.mark.parametrize("gate", [{"max_kl": -1.0}, {"min_top1": 1.5}])
def test_a_gate_out_of_range_is_refused(tmp_path: Path, gate: dict[str, float]):
    with pytest.raises(RecipeError, match=rf"export: {next(iter(gate))} is"):
        export_folder(
            "model", None, formats="gguf-q8_0", out=tmp_path, measured={"chats": tmp_path / "c", **gate}, as_json=False
        )


def test_formats_and_folder_must_be_named():
    with pytest.raises(RecipeError, match="needs --formats and --out, not extra"):
        export_folder("model", ["extra"], formats=None, out=None, measured={}, as_json=False)


def test_options_of_a_model_are_refused_beside_a_recipe():
    require_no_options("r.yaml", {"formats": None, "max_kl": None})
    with pytest.raises(RecipeError, match="--max-kl go with a model folder"):
        require_no_options("r.yaml", {"formats": None, "out": None, "max_kl": 0.5})
    with pytest.raises(RecipeError, match="--formats and --out go with a model folder"):
        require_no_options("r.yaml", {"formats": "gguf-f16", "out": None})


def test_a_missed_gate_ends_in_three():
    assert GateError.exit_code == 3
