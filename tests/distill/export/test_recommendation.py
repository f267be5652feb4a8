import pytest

from distill.export.recommendation import nearest_within, recommendations, smallest_within
from distill.export.size_plot import SizePoint

F16 = SizePoint("gguf-f16", 2_000_000, 1e-6)
Q8 = SizePoint("gguf-q8_0", 1_100_000, 5e-4)
Q5 = SizePoint("gguf-q5_1", 800_000, 4e-3)
NF4 = SizePoint("bnb-nf4", 800_000, 5e-2)
POINTS = [NF4, F16, Q5, Q8]


@pytest.mark.parametrize(("bound", "found"), [(1e-6, F16), (1e-3, Q8), (4e-3, Q5), (1.0, Q5), (1e-7, None)])
def test_the_smallest_that_is_near_enough_and_of_two_alike_the_nearer(bound, found):
    assert smallest_within(POINTS, max_kl_nats=bound) == found


@pytest.mark.parametrize(("limit", "found"), [(10**7, F16), (1_999_999, Q8), (800_000, Q5), (799_999, None)])
def test_the_nearest_that_is_small_enough_and_of_two_alike_the_smaller(limit, found):
    twin = SizePoint("twin", 2_500_000, F16.kl_nats)
    assert nearest_within([twin, *POINTS], max_size_bytes=limit) == found


def test_a_line_for_each_bound_says_so_where_there_is_none():
    found = recommendations([Q8, NF4], merged_size_bytes=4_000_000)
    assert [line.name for line in found] == ["gguf-q8_0", "gguf-q8_0", "bnb-nf4", "gguf-q8_0", "bnb-nf4"]
    assert [line.sentence() for line in found] == [
        "smallest with a KL of at most 0.001 nats: gguf-q8_0 (1.10 MB, 28%; KL 0.0005)",
        "smallest with a KL of at most 0.01 nats: gguf-q8_0 (1.10 MB, 28%; KL 0.0005)",
        "smallest with a KL of at most 0.1 nats: bnb-nf4 (0.80 MB, 20%; KL 0.05)",
        "nearest in at most 2.00 MB (50% of the merged model): gguf-q8_0 (1.10 MB, 28%; KL 0.0005)",
        "nearest in at most 1.00 MB (25% of the merged model): bnb-nf4 (0.80 MB, 20%; KL 0.05)",
    ]
    last = recommendations([F16], merged_size_bytes=2_000_000)[-1]
    assert (last.name, last.told) == (None, "none of these")


def test_without_artefacts_nothing_is_recommended():
    assert recommendations([], merged_size_bytes=1) == []
