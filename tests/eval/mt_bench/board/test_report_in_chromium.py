"""The page as a browser shows it: the script's filters, and a picture that is looked at region by region."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from eval.mt_bench.board import BenchmarkReport

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1200, 1600

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> str:
    named = os.environ.get("DISTILL_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium on PATH, and DISTILL_CHROMIUM names none")
    return found


def shown(browser: str, folder: Path, *arguments: str) -> str:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    profile = [f"--user-data-dir={folder / 'profile'}", "--no-first-run", "--disable-extensions"]
    return subprocess.run(
        [*command, *profile, *arguments], check=True, capture_output=True, text=True, timeout=240
    ).stdout


def questions_of(dom: str, elements: type) -> list[dict[str, str | None]]:
    return [one for one in elements(dom).with_class("question") if "hidden" not in one]


def test_filters_in_the_address_leave_what_they_ask_for(browser: str, page_path: Path, tmp_path: Path, elements: type):
    """Of verdicts in the second turn, only student's on question 3 is unscored, under either judge."""
    dom = shown(browser, tmp_path, "--dump-dom", f"{page_path.as_uri()}#turn=2&status=unscored&judge=0")
    assert [one["id"] for one in questions_of(dom, elements)] == ["question-3"]
    turns = [one for one in elements(dom).with_class("turn") if "hidden" not in one]
    assert {one["data-turn"] for one in turns} == {"2"}
    assert re.search(r'id="count"[^>]*>1 of 15 questions<', dom)
    assert "hidden" not in next(attributes for tag, attributes in elements(dom).elements if tag == "form")


def test_another_pair_of_models_sorts_anew(
    browser: str, page_path: Path, tmp_path: Path, report: BenchmarkReport, elements: type
):
    """Model 0 is the teacher, 1 the student: the teacher's biggest loss to the student is first."""
    dom = shown(browser, tmp_path, "--dump-dom", f"{page_path.as_uri()}#lost=0&to=1&category=2")
    found = questions_of(dom, elements)
    assert len(found) == 5
    losses = [float(str(one["data-losses"]).split(",")[0]) for one in found]
    assert losses == sorted(losses, reverse=True)
    assert {one["data-category"] for one in found} == {"2"}
    assert report.board.models[:2] == ("teacher", "student")


def test_the_picture_shows_text_and_colours_from_top_to_bottom(browser: str, page_path: Path, tmp_path: Path):
    picture = tmp_path / "page.png"
    shown(browser, tmp_path, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page_path.as_uri())
    pixels = imread(picture)[:, :, :3]
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    for band in np.array_split(pixels, 4):
        assert band.std() > 0.02, "a quarter of the page is blank"
    # Saturated pixels are the plots' lines and dots: text and surfaces are nearly grey.
    colourful = (pixels.max(-1) - pixels.min(-1)) > 0.3
    assert 500 < colourful.sum() < 0.1 * colourful.size
