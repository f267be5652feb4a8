"""checks.json beside the artefacts: all that is needed to hold them against the model again."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from distill.data import Conversation
from distill.errors import ArtefactError, DataError
from distill.export.lineage import shown_name
from distill.files import fingerprint, read_json, write_json

CHECKS = "checks.json"
_CHATS = TypeAdapter(tuple[Conversation, ...])


class Checks(BaseModel):
    """The inputs of an export, the folder they came from, and its gates.

    Attributes:
        source: the model's folder when it was exported; it may be gone.
        inputs: version, fingerprint of the model, held-out prompts, settings and lineage; with a format's name
            their fingerprint is the artefact's key, so that a changed prompt does not go unseen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["distill-export-checks"] = "distill-export-checks"
    version: Literal[1] = 1
    source: str
    inputs: dict[str, object]
    max_kl: float | None = None
    min_top1: float | None = None

    def key(self, name: str) -> str:
        """The fingerprint of all that goes into the artefact of format `name`."""
        return fingerprint({**self.inputs, "format": name})

    def prompts(self) -> tuple[Conversation, ...]:
        """The held-out chats.

        Raises:
            ArtefactError: one is no conversation.
        """
        try:
            return _CHATS.validate_python(self.inputs.get("prompts"))
        except (ValidationError, DataError) as error:
            raise ArtefactError(
                f"{CHECKS} holds a prompt that is none", why=str(error), fix="export it again"
            ) from error

    @property
    def lineage(self) -> dict[str, str]:
        """What the model cards say of where the model comes from."""
        told = self.inputs.get("lineage")
        return {str(name): str(value) for name, value in told.items()} if isinstance(told, dict) else {}

    def locked(self) -> dict[str, object]:
        """What the lock files say of the inputs: prompts stand by their fingerprint, a teacher's folder by its name."""
        told = {**self.inputs, "prompts": fingerprint(self.inputs.get("prompts"))}
        settings = self.inputs.get("settings")
        if isinstance(settings, dict) and settings.get("teacher"):
            told["settings"] = {**settings, "teacher": shown_name(str(settings["teacher"]))}
        return told


def write_checks(output_dir: Path, checks: Checks) -> None:
    """Writes `output_dir`/checks.json."""
    write_json(output_dir / CHECKS, checks.model_dump(mode="json"))


def read_checks(output_dir: Path) -> Checks:
    """Reads it back.

    Raises:
        ArtefactError: it is missing or not one of ours.
    """
    path = output_dir / CHECKS
    try:
        checks = Checks.model_validate(read_json(path))
        fingerprint(checks.inputs)  # numbers that are none have no fingerprint
    except (DataError, ValueError) as error:
        raise ArtefactError(f"{path} is not readable", why=str(error), fix="export it again") from error
    return checks
