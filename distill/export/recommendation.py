"""Which artefact to take: the smallest that is near enough, and the nearest that is small enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.export.size_plot import SizePoint

KL_BOUNDS_NATS = (0.001, 0.01, 0.1)
SHARES_OF_MERGED = (0.5, 0.25)


def smallest_within(points: Sequence[SizePoint], *, max_kl_nats: float) -> SizePoint | None:
    """The smallest artefact of at most this KL, of equal ones the nearer; None where all are farther."""
    near = [point for point in points if point.kl_nats <= max_kl_nats]
    return min(near, key=lambda point: (point.size_bytes, point.kl_nats), default=None)


def nearest_within(points: Sequence[SizePoint], *, max_size_bytes: int) -> SizePoint | None:
    """The nearest artefact of at most this size, of equal ones the smaller; None where all are larger."""
    small = [point for point in points if point.size_bytes <= max_size_bytes]
    return min(small, key=lambda point: (point.kl_nats, point.size_bytes), default=None)


@dataclass(frozen=True)
class Recommendation:
    """What may be wanted, and the artefact that serves it; `name` is None where none does."""

    wanted: str
    name: str | None
    told: str

    def sentence(self) -> str:
        """Wish and artefact in a line."""
        return f"{self.wanted}: {self.told}"


def recommendations(points: Sequence[SizePoint], *, merged_size_bytes: int) -> list[Recommendation]:
    """One for each bound of KL, and for each share of the merged model's size.

    Args:
        points: the artefacts other than the merged model; without any there is nothing to say.
        merged_size_bytes: of the merged model's files.
    """
    if not points:
        return []
    found = [
        (f"smallest with a KL of at most {bound:g} nats", smallest_within(points, max_kl_nats=bound))
        for bound in KL_BOUNDS_NATS
    ]
    for share in SHARES_OF_MERGED:
        limit = int(share * merged_size_bytes)
        wanted = f"nearest in at most {limit / 1e6:,.2f} MB ({share:.0%} of the merged model)"
        found.append((wanted, nearest_within(points, max_size_bytes=limit)))
    return [_recommendation(wanted, point, merged_size_bytes) for wanted, point in found]


def _recommendation(wanted: str, point: SizePoint | None, merged_size_bytes: int) -> Recommendation:
    if point is None:
        return Recommendation(wanted, None, "none of these")
    share = point.size_bytes / merged_size_bytes
    told = f"{point.name} ({point.size_bytes / 1e6:,.2f} MB, {share:.0%}; KL {point.kl_nats:.2g})"
    return Recommendation(wanted, point.name, told)
