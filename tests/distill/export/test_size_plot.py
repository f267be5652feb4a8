import xml.etree.ElementTree as ElementTree

from distill.export.size_plot import SizePoint, size_against_kl_svg

POINTS = [SizePoint("gguf-q8_0", 2_000_000, 1e-3), SizePoint("bnb-<nf4>$&", 1_000_000, 0.05)]


def test_every_point_has_its_name_and_nothing_is_fetched():
    svg = size_against_kl_svg(POINTS, merged_size_bytes=4_000_000)
    assert "gguf-q8_0" in svg
    assert "bnb-&lt;nf4&gt;$&amp;" in svg
    assert "http" not in svg
    assert "<style" not in svg
    assert "#0" not in svg  # all colours are the page's
    assert "mathdefault" not in svg  # the scale is written in plain numbers
    assert ">0.01<" in svg
    ElementTree.fromstring(svg)


def test_the_same_points_give_the_same_picture():
    assert size_against_kl_svg(POINTS) == size_against_kl_svg(POINTS)


def test_without_a_distance_there_is_no_picture():
    assert size_against_kl_svg([]) is None
    assert size_against_kl_svg([SizePoint("gguf-f32", 10, 0.0)]) is None
