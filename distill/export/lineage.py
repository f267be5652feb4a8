"""Where a model comes from, by the names that model cards, lock files and pushes know."""

from collections.abc import Mapping
from pathlib import Path

TEACHER, TEACHER_LICENCE = "teacher", "teacher's licence"
STUDENT, OBJECTIVE, RECIPE = "student before", "objective", "recipe"
DATA, DATA_LICENCE = "data", "data's licence"
LICENCE = "licence"

# Names that the hub's field `license` takes; any other goes under `other`, with its name beside it.
HUB_LICENCES = frozenset(
    {
        "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m", "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc", "cc-by-2.0", "cc-by-3.0",
        "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "creativeml-openrail-m", "deepfloyd-if-license",
        "eupl-1.1", "gemma", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-3.0", "llama2", "llama3", "llama3.1",
        "llama3.2", "llama3.3", "llama4", "mit", "mpl-2.0", "openrail", "openrail++", "osl-3.0", "pddl", "unknown",
        "unlicense", "wtfpl", "zlib",
    }
)  # fmt: skip


def is_hub_id(name: str | None) -> bool:
    """Whether `name` can be a model or data set of the hub, OWNER/NAME; a path or a file is none."""
    if not name or Path(name).exists():
        return False
    owner, slash, rest = name.partition("/")
    return bool(slash) and all(part and part[0].isalnum() and _is_plain(part) for part in (owner, rest))


def shown_name(name: str) -> str:
    """A hub id or name as it is; of a path of this machine the last part alone, which is nobody's home folder."""
    return name if is_hub_id(name) or not ("/" in name or "\\" in name) else Path(name).name


def known(lineage: Mapping[str, str]) -> dict[str, str]:
    """The entries that say something, in the order given."""
    return {name: value.strip() for name, value in lineage.items() if value and value.strip()}


def _is_plain(part: str) -> bool:
    return all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in part)
