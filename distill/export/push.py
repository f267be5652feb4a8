"""An artefact's folder to the Hugging Face hub: first a list of what would go, then, if told so, the upload."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.errors import ArtefactError, DataError, ExportError, RecipeError
from distill.export.card import CARD
from distill.export.checks import CHECKS
from distill.export.checksums import SUMS, listed_files, verify_checksums
from distill.export.hazards import refuse_hazards
from distill.export.lineage import LICENCE, TEACHER_LICENCE
from distill.export.lockfile import LOCK
from distill.files import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PushPlan:
    """Which files of `folder` go to `repo_id`, with their sizes in bytes, and what to think of before."""

    folder: Path
    repo_id: str
    sizes: dict[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(self.sizes.values())


def plan_push(folder: Path, *, repo_id: str) -> PushPlan:
    """What a push would send: the files under checksums and their list, nothing else; asks no server.

    Raises:
        RecipeError: `repo_id` is no name of a repository, or the folder is a whole export's.
        ArtefactError: the folder is no artefact, has no model card, or a file is damaged or unsafe.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise RecipeError(f"{repo_id!r} is no hub repository", why=str(error), fix="name it USER/NAME") from error
    if (folder / CHECKS).exists():
        raise RecipeError(
            f"{folder} is a whole export",
            why="a repository holds one model, and runtimes look for it at the top",
            fix=f"push one of its folders, such as {folder / 'safetensors'}",
        )
    verify_checksums(folder)
    refuse_hazards(folder)
    names = (*listed_files(folder), SUMS)
    if CARD not in names:
        raise ArtefactError(f"{folder} has no model card", why=f"{CARD} is not there", fix="export it again")
    sizes = {name: (folder / name).stat().st_size for name in names}
    return PushPlan(folder, repo_id, sizes, _warnings(folder))


def push(plan: PushPlan, *, private: bool = True, endpoint: str | None = None) -> str:
    """Creates the repository if need be and commits all files at once; returns the commit's address.

    The token is the one that `hf auth login` or HF_TOKEN gave huggingface_hub. Files that are there stay, but for
    those of the same name.

    Args:
        plan: of `plan_push`.
        private: whether a new repository is; one that exists stays as it is, and is refused where it is public.
        endpoint: another hub than huggingface.co, or None for HF_ENDPOINT's.

    Raises:
        ExportError: the hub cannot be reached or refuses.
        RecipeError: the repository is public and `private` is asked for.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint)
    operations = [CommitOperationAdd(name, plan.folder / name) for name in plan.sizes]
    try:
        api.create_repo(plan.repo_id, private=private, exist_ok=True)
        if private and not api.repo_info(plan.repo_id).private:
            raise RecipeError(
                f"{plan.repo_id} is public", why="everyone would see the files", fix="add --public if they may"
            )
        commit = api.create_commit(plan.repo_id, operations, commit_message=f"Add {plan.folder.absolute().name}")
    except (HfHubHTTPError, OSError, _network_error()) as error:
        raise _refused(plan, error, endpoint=api.endpoint) from None
    log.info("pushed %d files, %d bytes to %s", len(plan.sizes), plan.size_bytes, plan.repo_id)
    return str(commit.commit_url)


def rows(plan: PushPlan) -> Sequence[dict[str, object]]:
    """One row of a table for each file, and their total."""
    files: list[dict[str, object]] = [{"file": name, "size_bytes": size} for name, size in plan.sizes.items()]
    return [*files, {"file": "total", "size_bytes": plan.size_bytes}]


def _warnings(folder: Path) -> tuple[str, ...]:
    """What the lock's lineage leaves open of licences."""
    try:
        inputs = read_json(folder / LOCK).get("inputs")
    except DataError as error:
        return (f"the lineage is not known: {error.what}",)
    lineage = inputs.get("lineage") if isinstance(inputs, dict) else None
    told = lineage if isinstance(lineage, dict) else {}
    warnings = []
    if not told.get(TEACHER_LICENCE):
        warnings.append(
            "the lineage does not name the teacher's licence: some forbid training other models on their answers, or"
            " ask for a name or a notice (set export.teacher_licence in the recipe)"
        )
    if not told.get(LICENCE):
        warnings.append("the card names no licence for the model itself (set export.licence in the recipe)")
    return tuple(warnings)


def _refused(plan: PushPlan, error: Exception, *, endpoint: str) -> ExportError:
    """The hub's refusal in our words; no token stands in it."""
    from huggingface_hub import get_token

    status = getattr(getattr(error, "response", None), "status_code", None)
    fixes = {
        401: "log in (`hf auth login`), or set HF_TOKEN to a token that may write",
        403: f"use a token that may write to {plan.repo_id.partition('/')[0]} (`hf auth whoami` says whose it is)",
        404: f"check the name {plan.repo_id}, and that the token may see it",
    }
    fix = fixes.get(
        status or 0, "check the network and HF_ENDPOINT, then push again: what has arrived is not sent twice"
    )
    why = str(error).strip() or type(error).__name__
    token = get_token()
    return ExportError(
        f"{plan.repo_id} was not pushed to {endpoint}",
        why=why.replace(token, "(token)") if token else why,
        fix=fix,
    )


def _network_error() -> type[Exception]:
    """What huggingface_hub's HTTP library raises when a server does not answer: httpx2's HTTPError, before httpx's."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__[1:] if issubclass(base, Exception))
