import re
from pathlib import Path

import pytest

from distill.files import write_json
from eval.published import command_of, published, published_benchmark, published_stage, read_published
from eval.results import ResultRow, ResultTable, write_results
from eval.scores import Interval
from eval.speed.figures import CacheSpeed, RateDistortion, ReadRow, Spread
from eval.speed.head_figures import HeadSpeed
from eval.speed.train_figures import TrainSpeed
from eval.steering_figures import SteeringArm, SteeringFigures

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
MARKED = re.compile(r"<!-- table: (?P<file>\S+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)


def test_a_published_table_reads_back_with_its_origin(tmp_path: Path):
    table = ResultTable(rows=(ResultRow(model="teacher", kind="teacher", num_parameters=2_000_000),))
    write_results(tmp_path / "evaluate" / "results.json", table)
    versions = {"torch": "2", "transformers": "5", "deepspeed": "0.19"}
    manifest = {"stage": "evaluate", "versions": versions, "elapsed_s": 90.0}
    write_json(tmp_path / "evaluate" / "manifest.json", manifest)
    found = published(tmp_path, command="distill run x.yaml")
    write_json(tmp_path / "published.json", found.model_dump(mode="json"))
    assert read_published(tmp_path / "published.json") == found
    assert "| teacher | 2 M |" in found.to_markdown()
    assert "`distill run x.yaml`: 1.5 minutes" in found.to_markdown()


def test_a_published_benchmark_reads_back_with_its_origin(tmp_path: Path):
    once = Spread(median=2.0, low=1.0, high=3.0)
    read = ReadRow(name="`scores`", bytes_per_token=4.1, read_tokens_per_cpu_s=once)
    speed = CacheSpeed(shapes={"reading": "r"}, capture=(), reading=(read,), reading_ratio={}, waiting=())
    rates = RateDistortion(teachers=(), notes=("a note",))
    train = TrainSpeed(work="w", steps_a_turn=1, largest_loss_difference=1e-6, matmul_flops_per_s=once)
    for figures in (speed, rates, train, HeadSpeed(shape="s", device="CPU", notes=("a note",))):
        found = published_benchmark(figures, command="python -m x", elapsed_s=90.0)
        write_json(tmp_path / "published.json", found.model_dump(mode="json"))
        assert read_published(tmp_path / "published.json") == found
        assert found.to_markdown().startswith(figures.to_markdown())
        assert "\n\n`python -m x`: 1.5 minutes on " in found.to_markdown()


def test_the_command_holds_each_option_once_more():
    """A value with a space is quoted, as a shell wants it."""
    found = command_of("eval.speed.x", [("part", "read"), ("part", "two words"), ("steps", 3)])
    assert found == "python -m eval.speed.x --part read --part 'two words' --steps 3"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_table_of_a_document_is_the_committed_result(document: Path):
    for match in MARKED.finditer(document.read_text(encoding="utf-8")):
        result = read_published(ROOT / match["file"])
        assert match["text"].strip() == result.to_markdown().strip(), f"{document.name}: {match['file']}"


def test_the_figures_of_a_steered_run_read_back_with_their_origin(tmp_path: Path):
    """30 s of prepare and 60 s of the stage make 1.5 minutes."""
    share = Interval(0.5, 0.4, 0.6)
    arm = SteeringArm(name="ratio 2", personality=share, scenario=share, both=share, by_personality={}, differences={})
    figures = SteeringFigures(described="One way", arms=(arm,))
    write_json(tmp_path / "linear_alignment" / "results.json", figures.model_dump(mode="json"))
    for stage, elapsed_s in (("prepare", 30.0), ("linear_alignment", 60.0)):
        write_json(tmp_path / stage / "manifest.json", {"stage": stage, "elapsed_s": elapsed_s})
    found = published_stage(tmp_path, "linear_alignment", command="distill run x.yaml")
    write_json(tmp_path / "published.json", found.model_dump(mode="json"))
    assert read_published(tmp_path / "published.json") == found
    assert "`distill run x.yaml`: 1.5 minutes" in found.to_markdown()
