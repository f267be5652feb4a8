from eval.mt_bench.board import BenchmarkReport
from eval.mt_bench.board.sections import page_sections


def test_sections_come_in_the_order_of_reading(report: BenchmarkReport):
    one = report.board.model_copy(update={"single": report.board.single[:1]})
    sections = page_sections(one)
    assert [section.heading for section in sections] == [
        "Scores by judge-one",
        "Comparisons by judge-one",
        "What moves the judges",
        "Agreement between judges",
    ]
    assert [section.key for section in sections[:2]] == [part.protocol.key for part in one.judged]
    assert all(part.plot is not None or part.table is not None for section in sections for part in section.parts)
    assert sum(part.plot is not None for part in sections[0].parts) == 4
    assert [part.table.title for part in sections[0].parts if part.is_folded and part.table] == [
        "by category, judge judge-one"
    ]


def test_what_is_not_there_has_no_section(report: BenchmarkReport):
    nothing = {"agreement": (), "panels": (), "single": (), "pair": ()}
    board = report.board.model_copy(update=nothing)
    assert [section.heading for section in page_sections(board)] == ["What moves the judges"]
