"""Where the shipped teacher model lies."""

from pathlib import Path

from distill.errors import ModelError


def teacher_folder() -> Path:
    """The folder of the teacher model that ships with the package.

    Raises:
        ModelError: the folder is absent or holds no model.
    """
    return require_model(Path(__file__).parent / "teacher")


def require_model(folder: Path) -> Path:
    """The folder itself when it holds a model.

    Raises:
        ModelError: it has no config.json.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"the embedded teacher {folder} has no config.json",
            why="this installation was made without the teacher's weights",
            fix="distill run recipes/embedded/teacher.yaml",
        )
    return folder
