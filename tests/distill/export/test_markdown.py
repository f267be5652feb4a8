import yaml
from hypothesis import given
from hypothesis import strategies as st

from distill.export.markdown import front_matter, inline, table

HOSTILE = "a|b\n---\n# x <script>alert(1)</script> [l](http://x) `c` \u202e \x00 & \\|"


def test_a_table_keeps_its_shape_whatever_a_cell_says():
    lines = table(("what", "value"), [(HOSTILE, HOSTILE)]).split("\n")
    assert len(lines) == 3
    assert lines[0] == "| what | value |"
    assert lines[1] == "|---|---|"
    assert lines[2].replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_inline_known_answer():
    assert inline("a|b\n<i>*x*</i> [y]`z` & \\") == r"a\|b &lt;i&gt;\*x\*&lt;/i&gt; \[y\]\`z\` &amp; \\"


@given(st.text())
def test_no_text_makes_a_line_or_a_tag(text):
    shown = inline(text)
    assert "<" not in shown
    assert ">" not in shown
    assert len(shown.splitlines()) <= 1


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=3))
def test_front_matter_is_read_back_as_it_was(values):
    text = front_matter(values)
    assert text.startswith("---\n")
    body = text.removeprefix("---\n").removesuffix("---")
    assert yaml.safe_load(body) == values
    assert "\n---" not in body.rstrip("\n")
