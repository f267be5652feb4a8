import itertools

from eval.speed.clock import Run, interleaved, rates, shares, spread


def test_runs_take_turns_and_the_warm_up_does_not_count():
    order: list[str] = []
    ticks = itertools.count()
    runs = {name: Run(lambda name=name: order.append(name)) for name in ("a", "b")}
    elapsed_s = interleaved(runs, num_repeats=2, clock=lambda: float(next(ticks)))
    assert order == ["a", "b"] * 3
    assert elapsed_s == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_preparing_is_off_the_clock():
    now = [0.0]

    def prepare() -> None:
        now[0] += 100.0

    def run() -> None:
        now[0] += 1.0

    assert interleaved({"a": Run(run, prepare)}, num_repeats=1, clock=lambda: now[0]) == {"a": [1.0]}


def test_a_spread_is_median_lowest_and_highest():
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)
    assert rates(6.0, [2.0]).median == 3.0


def test_shares_are_taken_round_by_round():
    """A round that was slow for both tells the same share: 1/2 each time, where the medians' ratio would too."""
    found = shares([2.0, 20.0, 4.0], [1.0, 10.0, 2.0])
    assert (found.low, found.high) == (0.5, 0.5)
