"""What no artefact holds: files that run code when they are read, or words that make a loader fetch some."""

from pathlib import Path

from distill.errors import ArtefactError, DataError
from distill.files import read_json

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".keras"})
CODE = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".bat", ".exe"})
ADAPTERS = "adapter_config.json"
REMOTE_CODE = ("auto_map", "custom_pipelines", "custom_generate", "trust_remote_code")


def refuse_hazards(folder: Path) -> None:
    """Refuses a folder with pickles, code or adapters, or with a configuration that asks for code; reads and runs none.

    Raises:
        ArtefactError: names the file.
    """
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in PICKLES:
            raise ArtefactError(f"{path} may be a pickle", why="a pickle runs code when it is read", fix="remove it")
        if suffix in CODE:
            raise ArtefactError(f"{path} is code", why="an artefact is data alone", fix="remove it")
        if path.name == ADAPTERS:
            raise ArtefactError(
                f"{path} brings adapters",
                why="transformers would add them to the weights unasked, or load the base that they name",
                fix="remove it: an artefact is merged",
            )
        if suffix == ".json" and "config" in path.name:
            _refuse_remote_code(path)


def _refuse_remote_code(path: Path) -> None:
    try:
        values = read_json(path)
    except DataError as error:
        raise ArtefactError(error.what, why=error.why, fix="export it again") from error
    named = next((name for name in REMOTE_CODE if name in values), None)
    if named is not None:
        raise ArtefactError(
            f"{path} has {named}",
            why="it asks the loader to run code that comes with the model",
            fix="remove it, or do not use the artefact; nothing was run",
        )
