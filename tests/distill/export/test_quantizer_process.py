import json
import logging
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distill.errors import ExportError
from distill.export.quantizer_process import run_job, take_over
from distill.files import read_json

READ = "import json, sys, os, pathlib\nrequest = json.loads(sys.stdin.readline())\n"


def reply(expression: str) -> str:
    return f"pathlib.Path(request['reply']).write_text(json.dumps({expression}))"


@pytest.fixture
def job(tmp_path):
    """Runs a program's text."""

    def run(text: str, *, python: Path | None = None, **request: object) -> dict[str, object]:
        (tmp_path / "job.py").write_text(READ + text)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        return run_job(tmp_path / "job.py", request, python=python, what="a quantizer", scratch=scratch)

    return run


def test_the_reply_comes_back_and_progress_is_passed_on(job, caplog):
    with caplog.at_level(logging.INFO):
        answer = job("print('half of it')\n" + reply("{'sum': sum(request['numbers'])}"), numbers=[2, 3])
    assert answer == {"sum": 5}
    assert "a quantizer: half of it" in caplog.messages


def test_a_job_that_fails_says_its_last_words(job):
    with pytest.raises(ExportError, match=r"a quantizer failed.*exit code 1\)(.|\n)*ValueError: no such layer"):
        job("raise ValueError('no such layer')")


def test_a_job_that_never_reads_its_request_says_why_it_ended(tmp_path):
    (tmp_path / "job.py").write_text("import sys; sys.stdin.close(); sys.exit('out of order')")
    with pytest.raises(ExportError, match="out of order"):
        run_job(tmp_path / "job.py", {"long": "x" * 200_000}, python=None, what="a quantizer", scratch=tmp_path)


def test_a_job_without_a_reply_failed(job):
    with pytest.raises(ExportError, match=r"exit code 0\)(.|\n)*it printed nothing"):
        job("")


def test_another_environments_interpreter_does_not_see_our_packages(job, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    text = reply("{'path': os.environ.get('PYTHONPATH'), 'offline': os.environ['HF_HUB_OFFLINE']}")
    assert job(text, python=Path(sys.executable)) == {"path": None, "offline": "1"}


def test_a_job_ends_with_us(job, tmp_path):
    class Interrupts(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise KeyboardInterrupt

    logger = logging.getLogger("distill.export.quantizer_process")
    logger.setLevel(logging.INFO)
    logger.addFilter(interrupts := Interrupts())
    try:
        with pytest.raises(KeyboardInterrupt):
            job(
                f"import time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
                "print('working', flush=True)\ntime.sleep(600)"
            )
    finally:
        logger.removeFilter(interrupts)
        logger.setLevel(logging.NOTSET)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_all_but_weights_and_their_description_is_the_merged_models(llama_folder, tmp_path):
    written, folder = tmp_path / "written", tmp_path / "artefact"
    written.mkdir()
    folder.mkdir()
    save_file({"x": torch.zeros(1)}, written / "model.safetensors")
    older = {"model_type": "llama", "rope_theta": 1.0, "quantization_config": {"quant_method": "new"}}
    (written / "config.json").write_text(json.dumps(older))
    (written / "tokenizer.json").write_text("another version's")
    take_over(written, folder, merged_folder=llama_folder)
    merged = read_json(llama_folder / "config.json")
    assert read_json(folder / "config.json") == {**merged, "quantization_config": {"quant_method": "new"}}
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (llama_folder / name).read_bytes()


def test_a_quantizer_that_leaves_nothing_is_refused(llama_folder, tmp_path):
    with pytest.raises(ExportError, match="wrote 0 files of weights"):
        take_over(tmp_path, tmp_path, merged_folder=llama_folder)
