import json
from pathlib import Path

import pytest

from distill.embedded import teacher_folder
from distill.export import FORMATS
from eval.published import read_published
from eval.speed import export
from eval.speed.export import available
from eval.speed.export_figures import ExportSpeed


def test_formats_that_need_nothing_are_here_and_others_name_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    here, missing = available(tuple(FORMATS))
    assert {"safetensors", "bnb-nf4", "gguf-q8_0"} <= set(here)
    told = " ".join(missing)
    assert all(name in told for name in FORMATS if name not in here)
    assert all("pip install" in note for note in missing)


def test_what_was_measured_before_a_failure_is_kept(tmp_path: Path, monkeypatch, capsys):
    def measured(plan):
        yield ExportSpeed(notes=("first part",))
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "measured", measured)
    monkeypatch.setattr(export, "start_processes", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        export.main(["--shape", "none", "--repeats", "2", "--threads", "1", "--json", str(tmp_path / "export.json")])
    found = read_published(tmp_path / "export.json")
    assert found.command == "python -m eval.speed.export --shape none --repeats 2 --chats 16 --threads 1"
    assert "first part." in found.to_markdown()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_formats_and_peers_are_measured_on_a_model_of_ones_own(tmp_path: Path, capsys):
    """bitsandbytes makes the same 4-bit weights however it is asked, so both sides are equally far."""
    chosen = ["--format", "safetensors", "--format", "gguf-q8_0", "--part", "formats", "--part", "peers"]
    model = ["--model", str(teacher_folder()), "--shape", "none"]
    export.main([*model, *chosen, "--repeats", "1", "--chats", "2", "--threads", "1"])
    figures = ExportSpeed.model_validate(json.loads(capsys.readouterr().out.splitlines()[-1]))
    (found,) = figures.models
    merged, quantized = found.rows
    assert (merged.format, merged.kl_nats, quantized.format) == ("safetensors", 0.0, "gguf-q8_0")
    assert 0 < quantized.kl_nats < 1e-4
    assert quantized.size_bytes < merged.size_bytes
    assert quantized.generation_tokens_per_s.low > 0
    assert [row.format for row in figures.peers] == ["bnb-nf4", "bnb-int8"]
    assert all(row.ours.kl_nats == pytest.approx(row.theirs.kl_nats, rel=1e-3) for row in figures.peers)
