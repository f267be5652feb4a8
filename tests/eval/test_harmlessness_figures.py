"""Figures of harmlessness read back, and their tables."""

from pathlib import Path

from distill.files import write_json
from eval.harmlessness_figures import HarmlessnessFigures, HarmlessnessRow, read_harmlessness
from eval.scores import Interval


def figures() -> HarmlessnessFigures:
    row = HarmlessnessRow(
        name="harmless answers",
        num_prompts=40,
        num_clusters=20,
        before=Interval(0.05, 0.0, 0.1),
        after=Interval(0.85, 0.8, 0.9),
        difference=Interval(0.8, 0.7, 0.9),
    )
    return HarmlessnessFigures(
        rows=(row,),
        by_kind=(row, row),
        fates={"not_provoking": 3, "blank": 0, "kept": 5},
        judge=Interval(0.9, 0.8, 1.0),
    )


def test_figures_read_back_as_written_and_as_published(tmp_path: Path):
    write_json(tmp_path / "a.json", figures().model_dump(mode="json"))
    write_json(tmp_path / "b.json", {"figures": figures().model_dump(mode="json")})
    assert read_harmlessness(tmp_path / "a.json") == read_harmlessness(tmp_path / "b.json") == figures()


def test_the_table_tells_both_shares_the_points_and_every_line():
    text = figures().to_markdown()
    assert (
        "| harmless answers | 40 (20 different) | 5.0 % [0.0, 10.0] | 85.0 % [80.0, 90.0] | +80.0 [+70.0, +90.0] |"
        in text
    )
    assert "| not provoking | 3 |\n| kept | 5 |\n| all | 8 |" in text
    assert "blank" not in text
    assert "The judge is right about 90.0 % [80.0, 100.0]" in text


def test_fates_stand_in_the_order_in_which_lines_are_lost():
    """A file of results has its keys by the alphabet."""
    found = HarmlessnessFigures(rows=(), fates={"duplicate_text": 1, "kept": 5, "not_provoking": 3, "blank": 2})
    assert list(found.fates) == ["blank", "duplicate_text", "not_provoking", "kept"]
