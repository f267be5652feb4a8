from pathlib import Path

import pytest
from jinja2 import UndefinedError

from eval.page import page_environment


def test_texts_are_escaped_and_names_not_given_are_errors(tmp_path: Path):
    (tmp_path / "a.jinja").write_text("<p>{{ text }}</p>")
    template = page_environment(tmp_path).get_template("a.jinja")
    assert template.render(text="<b>'\"") == "<p>&lt;b&gt;&#39;&#34;</p>"
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        template.render()


def test_the_style_that_pages_share_is_found(tmp_path: Path):
    style = page_environment().get_template("page_style.css.jinja").render()
    assert "--sixth" in style
    assert "</style" not in style
