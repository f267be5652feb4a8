"""Packages that only some formats need: whether one is installed, and the exact line that installs it."""

import importlib
import importlib.util
import shutil
from dataclasses import dataclass
from types import ModuleType

from distill.errors import RecipeError


@dataclass(frozen=True)
class Extra:
    """An optional package: the module to import, and the command that brings it.

    `program` names a command that does as well where it is on the path.
    """

    module: str
    install: str
    program: str | None = None

    def require(self, what: str) -> None:
        """Refuses `what`, which needs the package, before any work is done; imports nothing.

        Raises:
            RecipeError: the package is not installed; says how to install it.
        """
        if importlib.util.find_spec(self.module) is None and not (self.program and shutil.which(self.program)):
            raise RecipeError(f"{what} needs {self.module}, which is not installed", fix=self.install)

    def load(self, what: str) -> ModuleType:
        """The imported module.

        Raises:
            RecipeError: it is not installed, or its own imports fail.
        """
        self.require(what)
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise RecipeError(
                f"{what} needs {self.module}, which cannot be imported", why=str(error), fix=self.install
            ) from error


LLAMA_CPP = Extra(
    "llama_cpp",
    "pip install 'llama-cpp-python>=0.3.30' (builds llama.cpp: about 10 minutes, needs cmake and a C++ compiler), "
    "or put llama.cpp's llama-quantize on the PATH",
    program="llama-quantize",
)
TORCHAO = Extra("torchao", "pip install 'torchao>=0.18'")
AUTO_ROUND = Extra("auto_round", "pip install 'auto-round>=0.16'")
COMPRESSED_TENSORS = Extra("compressed_tensors", "pip install 'compressed-tensors>=0.19'")
