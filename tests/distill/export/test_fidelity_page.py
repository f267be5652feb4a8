import re
from html.parser import HTMLParser

from distill.export.fidelity import Fidelity
from distill.export.fidelity_page import PAGE, megabytes, number, per_cent, render_page, speed, write_page
from distill.export.report import ArtefactReport, ExportReport
from distill.export.runtime_cost import RuntimeCost
from distill.export.sample_answers import SampleAnswer
from distill.export.smoke import SmokeReport
from distill.export.teacher_distance import TeacherDistance
from distill.export.weight_error import TensorError, WeightReport


def artefact(name, *, kl=0.0123, is_whole=True):
    cost = RuntimeCost(0.5, 128, 1000.0, 32, 77.7, 300_000_000, 40_000_000, "x86_64 <CPU>")
    return ArtefactReport(
        format=name,
        key="k",
        model_file=".",
        size_bytes=12_345_678,
        details={},
        fidelity=Fidelity(2, 100, kl, 0.001, 0.005, 0.1, 0.2, 0.987, 2.0, 2.2, 1.1, 0.0953, 0.0117, -0.00123, 0.0456)
        if is_whole
        else None,
        smoke=SmokeReport(
            "llama.cpp",
            10,
            11,
            9,
            8,
            10,
            next_token_kl_nats=0.00234,
            median_first_difference_tokens=6.5,
            mean_answer_tokens=17.5,
            merged_mean_answer_tokens=18.25,
            answers=(SampleAnswer("<b>Hi</b>?", "Hello & co", "Hello <img alt=x>"), SampleAnswer("q", "a", "a")),
        ),
        weights=WeightReport({"Q8_0": 15}, 8.51, (TensorError("blk<0>", "Q8_0", 0.0042),), 3) if is_whole else None,
        teacher=TeacherDistance(1100, 0.251, 0.263, 0.0031) if is_whole else None,
        cost=cost if is_whole else None,
    )


class Balanced(HTMLParser):
    """Raises where an element is closed that is not the open one."""

    VOID = ("meta", "path", "use", "br")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        del attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_shows_every_figure(tmp_path):
    page = render_page(ExportReport(output_dir=tmp_path, artefacts=(artefact("gguf-q8_0"),)))
    shown = [
        "12.35",
        "8.51",
        "0.0123",
        "98.70%",
        "1.1000",
        "0.251",
        "0.263",
        "9 of 10",
        "6.5",
        "77.7",
        "1,000",
        "300.00",
        "0.42%",
        "0.0953",
        "0.0117",
        "-0.12%",
        "4.56%",
        "0.00234",
        "8 of 10",
        "17.5",
        "18.2",
        "0.012",
        "0.0031",
        "1,100",
        "the same",
    ]
    assert [figure for figure in shown if f"<td>{figure}</td>" not in page] == []
    assert "15 × Q8_0" in page
    assert "100 tokens of 2 chats; the merged model's perplexity is 2." in page
    assert "3 can be read by their own runtime only" in page
    assert '<svg role="img"' in page


def test_the_page_is_whole_escaped_and_fetches_nothing(tmp_path):
    rows = artefact("safetensors"), artefact("gguf-q8_0"), artefact("<script>alert(1)</script>", kl=1e-4)
    page = render_page(ExportReport(output_dir=tmp_path, artefacts=rows))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;b&gt;Hi&lt;/b&gt;?" in page
    assert "take" in page
    assert "blk&lt;0&gt;" in page
    assert "x86_64 &lt;CPU&gt;" in page
    assert not re.search(r"""https?:|src=|href="(?!#)|@import|url\((?!#)""", page)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_the_page_says_which_one_to_take(tmp_path):
    merged = artefact("safetensors").model_copy(update={"size_bytes": 40_000_000})
    page = render_page(ExportReport(output_dir=tmp_path, artefacts=(merged, artefact("gguf-q8_0"))))
    assert "<td>smallest with a KL of at most 0.01 nats</td><td>none of these</td>" in page
    taken = "<td>gguf-q8_0 (12.35 MB, 31%; KL 0.012)</td>"
    assert f"<td>smallest with a KL of at most 0.1 nats</td>{taken}" in page
    assert f"<td>nearest in at most 20.00 MB (50% of the merged model)</td>{taken}" in page
    assert "Measured on x86_64 &lt;CPU&gt;." in page


def test_what_was_not_measured_is_said(tmp_path):
    page = render_page(ExportReport(output_dir=tmp_path, artefacts=(artefact("safetensors", is_whole=False),)))
    assert "not measured: no held-out chats were given" in page
    assert "<svg" not in page
    assert "None" not in page


def test_the_file_is_beside_the_report(tmp_path):
    path = write_page(ExportReport(output_dir=tmp_path, artefacts=(artefact("gguf-q8_0"),)))
    assert path == tmp_path / PAGE
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_figures_are_short():
    assert (number(0.001234), per_cent(0.5), megabytes(1_500_000)) == ("0.00123", "50.00%", "1.50")
    assert (speed(12_345.6), speed(12.34)) == ("12,346", "12.3")
    assert {number(None), per_cent(None), megabytes(None), speed(None)} == {"–"}
