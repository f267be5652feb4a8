"""Models whose weights are quantized already, which are not quantized again."""

from distill.errors import RecipeError
from distill.files import read_json
from distill.models import ModelSource, adapter_base, find_source


def require_unquantized(source: ModelSource) -> None:
    """Refuses weights that are quantized already, and adapters on weights that cannot be made plain again.

    Adapters on a base that bitsandbytes holds are let through: they are merged into the numbers it stands for.

    Raises:
        ModelError: adapters have no base.
        RecipeError: says which format it is.
    """
    if source.kind == "adapter":
        base = find_source(adapter_base(source))
        method = quantization_method(base)
        if method not in (None, "bitsandbytes"):
            raise RecipeError(
                f"{source.folder} holds adapters for {base.name}, which is quantized already ({method})",
                why="what they are added to has to be plain numbers",
                fix="train them on the model it was made from, plain or with quantization=nf4",
            )
        return
    method = quantization_method(source)
    if method is not None:
        raise RecipeError(
            f"{source.folder} is quantized already ({method})",
            why="rounding it again would add one format's errors to another's",
            fix="export the model it was made from",
        )


def quantization_method(source: ModelSource) -> str | None:
    """Which format holds the weights, as the configuration says; None where they are plain numbers, or adapters."""
    if source.kind == "gguf":
        return "gguf"
    if source.kind == "adapter":
        return None
    found = read_json(source.folder / "config.json").get("quantization_config")
    if not isinstance(found, dict):
        return None if found is None else "unknown"
    packed_by_bnb = found.get("load_in_4bit") or found.get("load_in_8bit")
    return str(found.get("quant_method") or ("bitsandbytes" if packed_by_bnb else "unknown"))
