import os

import pytest

from distill.errors import RecipeError
from distill.extras import Extra

MISSING = Extra("no_such_package_of_anyone", "pip install no-such-package")


def test_a_missing_package_is_refused_with_the_line_that_installs_it():
    for ask in (MISSING.require, MISSING.load):
        with pytest.raises(RecipeError, match="format x needs no_such_package_of_anyone") as refusal:
            ask("format x")
        assert refusal.value.fix == "pip install no-such-package"
        assert refusal.value.exit_code == 2


def test_a_program_on_the_path_does_as_well(tmp_path, monkeypatch):
    program = tmp_path / "quantize-it"
    program.write_text("#!/bin/sh\n")
    extra = Extra(MISSING.module, MISSING.install, program=program.name)
    with pytest.raises(RecipeError):
        extra.require("format x")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    extra.require("format x")


def test_a_package_that_is_there_is_loaded():
    assert Extra("json", "").load("format x").loads("[1]") == [1]


def test_a_package_whose_own_imports_fail_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_package_of_a_test.py").write_text("import no_such_package_of_anyone\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match="cannot be imported") as refusal:
        Extra("broken_package_of_a_test", "pip install it").load("format x")
    assert "no_such_package_of_anyone" in refusal.value.why
