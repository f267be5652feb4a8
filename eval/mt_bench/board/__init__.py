"""What a judged benchmark says: the scoreboard, its tables, and the page with the judgment browser.

benchmark         the folder, read
scores, pairs     single scores and pairwise verdicts of one judge
panel             several judges against each other
guards            kin of the judge, canaries, answers that hold verdicts
scoreboard        all of it in one document
tables            rows for the terminal and the page; `score_tables`, `pair_tables`, `cells` beneath
browser           every question with answers, verdicts and losses
plots, sections, report   the page and its JSON twin
"""

from eval.mt_bench.board.benchmark import Benchmark, read_benchmark
from eval.mt_bench.board.cells import Table
from eval.mt_bench.board.guards import canary_model, is_canary
from eval.mt_bench.board.report import (
    BenchmarkReport,
    benchmark_report,
    read_benchmark_report,
    render,
    write_benchmark_report,
)
from eval.mt_bench.board.scoreboard import Scoreboard, scoreboard
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.board.tables import all_tables, warnings_of

__all__ = [
    "Benchmark",
    "BenchmarkReport",
    "BoardSettings",
    "Scoreboard",
    "Table",
    "all_tables",
    "benchmark_report",
    "canary_model",
    "is_canary",
    "read_benchmark",
    "read_benchmark_report",
    "render",
    "scoreboard",
    "warnings_of",
    "write_benchmark_report",
]
