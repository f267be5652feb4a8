"""`distill cache`: fills a recipe's cache, or looks into one: inspect, verify, benchmark, gc."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli_output import is_main_rank, print_facts, print_object, print_table
from distill.errors import RecipeError

if TYPE_CHECKING:
    from distill.teacher_cache import Histogram

NUM_REPEATS = 5
BAR_WIDTH = 40


@dataclass(frozen=True)
class CacheOptions:
    """The options of `distill cache`; each belongs to one of its verbs."""

    workers: int | None = None
    against_teacher: int | None = None
    dry_run: bool = False
    as_json: bool = False

    def require_only(self, verb: str, *names: str) -> None:
        """Refuses options that `verb` does not have.

        Raises:
            RecipeError: names the option, and where it belongs.
        """
        given = {
            "--workers": self.workers is not None,
            "--against-teacher": self.against_teacher is not None,
            "--dry-run": self.dry_run,
        }
        for name, is_given in given.items():
            if is_given and name not in names:
                raise RecipeError(f"{name} does not go with {verb}", fix=f"distill cache {_BELONGS_TO[name]}")


_BELONGS_TO = {
    "--workers": "RECIPE --workers N",
    "--against-teacher": "verify DIR --against-teacher N",
    "--dry-run": "gc DIR --dry-run",
}


def worker_overrides(options: CacheOptions) -> list[str]:
    """What the options of `distill cache RECIPE` say, in the recipe's own words."""
    return [] if options.workers is None else [f"cache.workers={options.workers}"]


def look_into(verb: str, folder: Path, options: CacheOptions) -> None:
    """Runs one of the verbs that take a cache folder.

    Raises:
        RecipeError: an option belongs to another verb, or the caches lie deeper: the folder is a run's or a stage's.
        CacheError: the folder holds no cache, or a damaged one.
    """
    allowed = {"verify": ("--against-teacher",), "gc": ("--dry-run",)}.get(verb, ())
    options.require_only(f"cache {verb}", *allowed)
    inner = [folder / place / name for place in ("", "cache") for name in ("teacher", "reference")]
    held = [path for path in inner if (path / "manifest.json").exists()]
    if held:
        raise RecipeError(f"{folder} is no teacher cache, but holds {held[0]}", fix=f"distill cache {verb} {held[0]}")
    CACHE_VERBS[verb](folder, options)


def _inspect(folder: Path, options: CacheOptions) -> None:
    """What a cache is, its tiers, and what its numbers look like."""
    from distill.pipeline.cache_folder import histograms_of
    from distill.teacher_cache import inspect

    facts = inspect(folder)
    found = histograms_of(folder) if any(_is_complete(tier) for tier in _tiers(facts)) else {}
    if options.as_json:
        print_object({**facts, "histograms": {name: histogram.to_json() for name, histogram in found.items()}})
        return
    _print_figures(f"cache {folder}", facts)
    for name, histogram in found.items():
        _print_histogram(name, histogram)


def _print_figures(title: str, facts: Mapping[str, object]) -> None:
    """The figures of a cache, and one line a tier."""
    print_facts(title, {name: value for name, value in facts.items() if name != "tiers"}, as_json=False)
    print_table("tiers", _tiers(facts), as_json=False)


def _tiers(facts: Mapping[str, object]) -> list[Mapping[str, object]]:
    tiers = facts["tiers"]
    assert isinstance(tiers, list)
    return tiers


def _is_complete(tier: Mapping[str, object]) -> bool:
    return tier["is_complete"] is True


def _print_histogram(name: str, histogram: "Histogram") -> None:
    """A histogram as lines of text, the fullest bin as wide as the paper."""
    if not is_main_rank():
        return
    quantiles = ", ".join(f"{share} {value:.3g}" for share, value in histogram.quantiles.items())
    print(f"{name}: {histogram.num_values} values, mean {histogram.mean:.4g}; {quantiles}")
    for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        bar = "█" * round(BAR_WIDTH * count / max(histogram.counts))
        print(f"  {low:>9.3g} to {high:>9.3g} {count:>8} {bar}")


def _verify(folder: Path, options: CacheOptions) -> None:
    """Reads every byte again; against the live teacher too, where asked."""
    from distill.teacher_cache import verify

    facts = verify(folder)
    if options.against_teacher is None:
        if options.as_json:
            print_object(facts)
        else:
            _print_figures(f"cache {folder}, checksums verified", facts)
        return
    from distill.pipeline.cache_folder import fidelity_of

    fidelity = fidelity_of(folder, num_sequences=options.against_teacher)
    if options.as_json:
        print_object({**facts, "against_teacher": fidelity.model_dump(mode="json")})
        return
    rows = [tier.model_dump(mode="json") for tier in fidelity.tiers]
    title = f"cache {folder}, checksums verified; against its teacher on {fidelity.num_tokens} tokens"
    print_table(title, rows, as_json=False)


def _benchmark(folder: Path, options: CacheOptions) -> None:
    """How fast each tier is read and decoded on this machine."""
    from distill.teacher_cache import TeacherCache
    from eval.speed.read import read_rows

    rows = [
        {
            "tier": row.name.strip("`"),
            "bytes_per_token": row.bytes_per_token,
            "read_tokens_per_cpu_s": row.read_tokens_per_cpu_s.median,
            "read_mb_per_cpu_s": row.read_tokens_per_cpu_s.median * row.bytes_per_token / 1e6,
            "decode_tokens_per_cpu_s": None
            if row.decode_tokens_per_cpu_s is None
            else row.decode_tokens_per_cpu_s.median,
        }
        for row in read_rows(TeacherCache.open(folder), num_repeats=NUM_REPEATS)
    ]
    print_table(f"reading {folder}, warm page cache", rows, as_json=options.as_json)


def _gc(folder: Path, options: CacheOptions) -> None:
    """Removes what serves nothing any more, or says what would go."""
    from distill.teacher_cache import collect_garbage

    found = collect_garbage(folder, dry_run=options.dry_run)
    rows = [
        {"file": str(item.path.relative_to(folder)), "size_bytes": item.size_bytes, "reason": item.reason}
        for item in found
    ]
    done = "would free" if options.dry_run else "freed"
    title = f"cache {folder}: {done} {sum(item.size_bytes for item in found)} bytes in {len(found)} files"
    print_table(title, rows, as_json=options.as_json)


CACHE_VERBS: dict[str, Callable[[Path, CacheOptions], None]] = {
    "inspect": _inspect,
    "verify": _verify,
    "benchmark": _benchmark,
    "gc": _gc,
}
"""The verbs that take a cache folder."""
