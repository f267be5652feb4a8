from eval.speed.figures import (
    CacheSpeed,
    CaptureRow,
    RateDistortion,
    RatePoint,
    ReadRow,
    Spread,
    TeacherRates,
    WaitingRow,
    at_equal_bytes,
)


def _point(name: str, origin: str, bytes_per_token: float, kl: float | None, angle: float = 1.0) -> RatePoint:
    return RatePoint.model_validate(
        {
            "name": name,
            "origin": origin,
            "bytes_per_token": bytes_per_token,
            "kl_nats": kl,
            "max_kl_nats": kl,
            "total_variation": 0.1,
            "top_1_agreement": 1.0,
            "gradient_angle_degrees": angle,
        }
    )


def test_a_peer_that_is_closer_at_equal_bytes_is_said_to_be():
    points = [_point("mine", "ours", 100, 0.2, 5.0), _point("theirs", "peer", 100, 0.1, 9.0)]
    kl, angle = at_equal_bytes(points)
    assert kl == "By KL, closer than anything here of no more bytes: theirs (0.1 nats; here mine, 0.2 nats)."
    assert angle == "By gradient angle, no peer is closer than what stands here at no more bytes."


def test_what_costs_more_bytes_does_not_count_against_a_peer():
    points = [_point("big", "ours", 101, 0.0), _point("theirs", "peer", 100, 0.1)]
    assert "theirs (0.1 nats; here nothing)" in at_equal_bytes(points)[0]


def test_an_infinite_kl_is_beaten_by_any_other_and_ties_are_ours():
    points = [_point("mine", "ours", 10, 0.3), _point("cut", "peer", 10, None), _point("even", "peer", 10, 0.3)]
    assert at_equal_bytes(points)[0] == "By KL, no peer is closer than what stands here at no more bytes."


def test_without_peers_nothing_is_claimed():
    assert at_equal_bytes([_point("mine", "ours", 10, 0.3)]) == []


def test_the_rate_table_shows_infinity_and_what_full_logits_take():
    points = (_point("cut", "peer", 512, None), _point("mine", "ours", 1234.5, 6.1e-6))
    rates = TeacherRates(
        teacher="T",
        vocab_size=1000,
        hidden_size=8,
        num_tokens=9,
        entropy_nats=2,
        student_kl_nats=1,
        points=points,
    ).model_copy(update={"float32_exact_kl_nats": 3e-5})
    text = RateDistortion(teachers=(rates,), notes=("A note",)).to_markdown()
    assert "full float32 logits take 4,000 bytes a token" in text
    assert "in float32 is stored by `exact` at a KL of 3e-05." in text
    assert "| mine | 1,234.5 | 6.1e-06 | 0.1 | 100.00 % | 1.00° |" in text
    assert "| cut | 512.0 | ∞ |" in text
    assert text.index("| mine |") < text.index("| cut |")
    assert "the head once 0.0 MB in bfloat16" in text
    assert text.rstrip().endswith("A note.")


def test_parts_that_were_not_measured_have_no_table():
    once = Spread(median=2.0, low=1.0, high=3.0)
    shapes = {"capture": "c", "reading": "r", "waiting": "w"}
    row = WaitingRow(tier="exact", steps=3, step_s=once, waiting_share=0.0123)
    text = CacheSpeed(shapes=shapes, capture=(), reading=(), reading_ratio={}, waiting=(row,)).to_markdown()
    assert text.startswith("Waiting (w):")
    assert "| exact | 3 | 2.000 [1.000, 3.000] | 1.23 % |" in text
    capture = CaptureRow(codec="exact", baseline="body alone", tokens_per_s=once, share=once)
    read = ReadRow(name="`scores`", bytes_per_token=4.1, read_tokens_per_cpu_s=once)
    text = CacheSpeed(
        shapes=shapes, capture=(capture,), reading=(read,), reading_ratio={"the speed of X": 160.4}, waiting=()
    ).to_markdown()
    assert "| exact | 2 | body alone | 2.00 [1.00, 3.00] |" in text
    assert "| `scores` | 4.1 | 2 | – |" in text
    assert "`top-k` is read at 160 times the speed of X." in text
