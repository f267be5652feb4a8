from distill.training.clock import Clock


def test_the_clock_goes_on_where_the_metrics_ended():
    clock = Clock.after([{"elapsed_s": 5.0, "total_tokens": 70}, {"elapsed_s": 6.0}])
    assert (clock.elapsed_s, clock.num_tokens) == (6.0, 70)
    clock.tick(30)
    assert clock.num_tokens == 100
    assert clock.elapsed_s > 6.0
