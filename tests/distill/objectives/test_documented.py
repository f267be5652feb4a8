"""docs/objectives.md says of each objective and divergence what the tables of the code say."""

import re
from pathlib import Path

import pytest

from distill.objectives import DIVERGENCES, OBJECTIVES
from distill.objectives.tiers import ALL_TIERS, WHOLE_TIERS, tiers_for

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "objectives.md").read_text(encoding="utf-8")
NONE = "–"


def rows_between(start: str, end: str) -> list[list[str]]:
    """The cells of the table between two comments, without its two lines of headings."""
    found = re.search(rf"<!-- {start} -->\n(.*?)\n<!-- {end} -->", TEXT, re.DOTALL)
    assert found is not None
    lines = found[1].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def said(is_needed: bool) -> str:
    return "yes" if is_needed else NONE


def test_the_needs_of_every_objective_are_those_of_the_table():
    expected = [
        [
            f"`{name}`",
            row.examples,
            said(row.needs_reference),
            said(row.needs_teacher_scores),
            ", ".join(row.tiers) or NONE,
            row.teacher,
        ]
        for name, row in OBJECTIVES.items()
    ]
    assert rows_between("needs", "end of needs") == expected


def test_every_divergence_stands_with_the_tiers_that_tell_it():
    found = {row[0].split("`")[1]: row[2:] for row in rows_between("divergences", "end of divergences")}
    assert list(found) == [*DIVERGENCES, "uld"]
    for name, cells in found.items():
        tiers = tiers_for(name, {})
        kinds = (set(WHOLE_TIERS) <= set(tiers), "top-k" in tiers, "sampled" in tiers)
        assert cells == [said(kind) for kind in kinds], name


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_explained(name: str):
    """Once for what it needs, once for what it minimises."""
    assert len(re.findall(rf"^\| `{name}` \|", TEXT, re.MULTILINE)) == 2


def test_the_tiers_in_the_headings_are_all_there_are():
    (heading,) = re.findall(r"^\| divergence \|.*$", TEXT, re.MULTILINE)
    assert re.findall(r"`([^`]+)`", heading) == list(ALL_TIERS)
