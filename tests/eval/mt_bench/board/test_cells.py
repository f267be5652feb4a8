from eval.mt_bench.board.cells import Table, better, number, one_shape, p_value, points
from eval.scores import Interval


def test_figures_are_written_for_people():
    assert points(Interval(-0.5, -1.0, 0.004)) == "−0.50 [−1.00, 0.00]"
    assert points(Interval(0.5, 0.0, 1.0), signed=True) == "+0.50 [+0.00, +1.00]"
    assert points(None) == "–"
    assert points(None, mean=7.0) == "7.00"
    assert (p_value(0.0004), p_value(0.0404)) == ("< 0.001", "0.040")
    assert (number(None), number(-0.25)) == ("–", "−0.25")
    assert (better("a", "b", Interval(1, 0, 2)), better("a", "b", Interval(-1, -2, 0))) == ("a", "b")


def test_rows_of_a_table_have_one_shape():
    rows = one_shape([{"a": 1}, {"a": 2, "b": 3}, {"a": 4, "c": 5}])
    assert rows == ({"a": 1, "b": "–", "c": "–"}, {"a": 2, "b": 3, "c": "–"}, {"a": 4, "b": "–", "c": 5})
    assert one_shape([]) == ()
    assert Table("t", rows).headings == ["a", "b", "c"]
    assert Table("t", ()).headings == []
