"""How the import hook checks annotations: beartype, where every name in a signature can be resolved."""

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

Checked = TypeVar("Checked", bound=Callable[..., Any])
WITH_INT_FOR_FLOAT = BeartypeConf(is_pep484_tower=True)


def modules_with_shapes(root: Path) -> list[str]:
    """The modules of `distill` that state shapes, as files: checks on every call of all others cost minutes."""
    files = sorted((root / "distill").rglob("*.py"))
    stating = [file.relative_to(root) for file in files if "jaxtyping" in file.read_text(encoding="utf-8")]
    return [".".join(file.with_suffix("").parts) for file in stating]


def checked(function: Checked) -> Checked:
    """`function` with its arguments and result checked on every call.

    Signatures stay unchecked when they name a class that is imported for the type checker alone, the class being
    defined, `Self`, or a Protocol that `isinstance` refuses: none of those can be looked at while the module runs.
    """
    try:
        typing.get_type_hints(function)
        return beartype(conf=WITH_INT_FOR_FLOAT)(function)
    except (NameError, BeartypeDecorHintException):
        return function
