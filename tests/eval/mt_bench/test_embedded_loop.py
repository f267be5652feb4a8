"""The whole loop on untrained models: offline, and nothing twice."""

import socket
from pathlib import Path

import pytest

from distill.decoding import LlamaCppGenerator, TransformersGenerator
from distill.errors import DataError
from distill.export import write_gguf
from distill.models import ScratchSettings, load_model, new_model, save_model
from eval.mt_bench.board import read_benchmark_report
from eval.mt_bench.embedded_figures import EmbeddedBench
from eval.mt_bench.embedded_loop import LoopRequest, main, models_of, run_loop

SHAPE = ScratchSettings(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32, max_length_tokens=1024)


def local_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address).startswith(("('127.", "('::1'", "('localhost'")):
            raise AssertionError(f"the loop asked the network for {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def request_of_two(tmp_path: Path) -> LoopRequest:
    """Untrained teacher, student and Q8_0 student with the shipped teacher's tokenizer."""
    tokenizer = load_model("embedded", device="cpu").tokenizer
    run, teacher = tmp_path / "run", tmp_path / "tiny"
    save_model(new_model(SHAPE, tokenizer, seed=0), tokenizer, teacher)
    save_model(new_model(SHAPE, tokenizer, seed=1), tokenizer, run / "train" / "model")
    (run / "export" / "gguf-q8_0").mkdir(parents=True)
    write_gguf(run / "train" / "model", run / "export" / "gguf-q8_0" / "model-q8_0.gguf", file_type="q8_0")
    return LoopRequest(
        run, tmp_path / "out", str(teacher), num_questions=2, num_dialogues=8, num_held_out=4, num_resamples=100
    )


@pytest.mark.slow
def test_the_loop_needs_no_network_and_asks_nothing_twice(request_of_two: LoopRequest, monkeypatch):
    local_only(monkeypatch)
    first = run_loop(request_of_two)
    # single: 3 models and 3 canaries, 2 questions, 2 turns; pairs: 2 models against the teacher, both orders.
    assert first.num_asked == {
        f"{judge} {mode}": count
        for judge in ("embedded-logit", "embedded-reward", "checker")
        for mode, count in (("single", 6 * 4), ("pair", 2 * 4 * 2))
    }
    assert first.missed == []
    assert first.figures.num_verdicts == 3 * (24 + 16)
    assert [one.model for one in first.figures.models] == ["teacher", "student", "student-q8_0"]
    assert read_benchmark_report(first.report.with_suffix(".json")).board == first.board
    assert "Held against the checker" in first.report.read_text(encoding="utf-8")
    for kind in (TransformersGenerator, LlamaCppGenerator):
        monkeypatch.setattr(kind, "generate", lambda *_, **__: pytest.fail("an answer was asked for again"))
    again = run_loop(request_of_two)
    assert set(again.num_asked.values()) == {0}
    assert again.board == first.board
    untimed = {"seconds": {}}
    assert again.figures.model_copy(update=untimed) == first.figures.model_copy(update=untimed)
    assert EmbeddedBench.model_validate(first.figures.model_dump(mode="json")) == first.figures


def test_an_unfinished_run_is_refused(tmp_path: Path, capsys):
    with pytest.raises(DataError, match=r"train/model does not exist"):
        models_of(LoopRequest(tmp_path, tmp_path / "out"))
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "distill run recipes/quickstart.yaml" in capsys.readouterr().err
