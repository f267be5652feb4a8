"""How many weights of a row share one scale where a format leaves the choice."""

from pathlib import Path

from distill.errors import ExportError
from distill.export.tensor_files import TensorFiles

GROUP_SIZES = (128, 64, 32)
_OUTER = ("embed_tokens.weight", "lm_head.weight")


def group_size(merged_folder: Path) -> int:
    """The largest of `GROUP_SIZES` that divides the rows of every matrix inside the layers.

    Raises:
        ExportError: none does; names a matrix.
    """
    widths = _widths(merged_folder)
    found = next((size for size in GROUP_SIZES if all(width % size == 0 for width in widths.values())), None)
    if found is None:
        name = next(name for name, width in widths.items() if width % GROUP_SIZES[-1])
        raise ExportError(
            f"rows of {widths[name]} weights ({name}) cannot be cut into groups of {GROUP_SIZES[-1]}",
            why="4-bit weights share a scale in groups of equal size",
            fix="choose bnb-nf4 or a gguf format",
        )
    return found


def _widths(folder: Path) -> dict[str, int]:
    shapes = {name: tensor.shape for name, tensor in TensorFiles(folder).shapes.items()}
    return {name: shape[-1] for name, shape in shapes.items() if len(shape) == 2 and not name.endswith(_OUTER)}
