from eval.judges.pacing import Bucket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_beyond_a_seconds_worth_wait_in_turn():
    """60 a minute, one at once: the second waits 1 s, the third 2 s."""
    bucket = Bucket(60, now=Clock())
    assert [bucket.take(1) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_a_pause_fills_the_bucket_no_further_than_its_size():
    bucket = Bucket(120, now=(clock := Clock()))
    clock.now = 100.0
    assert [bucket.take(1) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]


def test_what_is_larger_than_the_bucket_goes_and_holds_up_the_next():
    """6,000 a minute, 100 at once; 1,000 leave a debt of 900, so the next 100 wait 10 s."""
    bucket = Bucket(6000, now=Clock())
    assert [bucket.take(1000), bucket.take(100)] == [0.0, 10.0]


def test_no_minute_sees_more_than_is_allowed_but_for_one_burst():
    bucket, clock = Bucket(30, now=Clock()), 0.0
    starts = [clock + bucket.take(1) for _ in range(100)]
    assert max(sum(start <= at < start + 60 for at in starts) for start in starts) <= 31
