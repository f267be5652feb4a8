"""The picture of harmlessness names every row and every fate, and is the same each time."""

from pathlib import Path

from eval.harmlessness_figures import HarmlessnessFigures, HarmlessnessRow
from eval.harmlessness_picture import harmlessness_picture
from eval.pictures import write_picture
from eval.scores import Interval


def test_the_picture_names_rows_and_fates(tmp_path: Path):
    share = Interval(0.5, 0.4, 0.6)
    row = HarmlessnessRow(name="free_stuff", num_prompts=4, num_clusters=2, before=share, after=share)
    figures = HarmlessnessFigures(rows=(row,), fates={"not_provoking": 3, "blank": 0, "kept": 5})
    for name in ("a", "b"):
        write_picture(harmlessness_picture(figures), tmp_path / f"{name}.svg")
    svg = (tmp_path / "a.svg").read_text()
    assert svg == (tmp_path / "b.svg").read_text()
    assert all(word in svg for word in ("free stuff", "not provoking", "kept", "before", "after"))
    assert "blank" not in svg
