"""The base of every recipe section: frozen, unknown keys forbidden with "did you mean"; YAML and overrides."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from distill.errors import RecipeError

MAX_VALUES = 10_000


class Settings(BaseModel):
    """A section of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), strict=False)


SettingsType = TypeVar("SettingsType", bound=Settings)


def read_yaml(path: Path) -> dict[str, object]:
    """Reads a YAML mapping with the safe loader.

    Raises:
        RecipeError: the file is missing, not YAML, or not a mapping; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"recipe {path} does not exist", fix="check the path") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise RecipeError(f"recipe {path} is not a text file", fix="name a YAML file") from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> dict[str, object]:
    """Parses a YAML mapping with the safe loader; `source` names it in errors."""
    try:
        value = _loaded(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(f"{source}{line} is not YAML: {problem}", fix="mend the line") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{source} is not a recipe: {error}", fix="look for the date, number or alias") from error
    if not isinstance(value, dict):
        raise RecipeError(f"{source} holds a {type(value).__name__}", why="a mapping of sections was expected")
    return value


def with_overrides(values: Mapping[str, object], overrides: list[str]) -> dict[str, object]:
    """Applies `key.sub=value` overrides (values are YAML) to a copy of a nested mapping.

    Raises:
        RecipeError: an override has no `=`, an empty key, or goes through something that is no section.
    """
    result = _deep_copy(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.split(".")
        if not separator or not all(parts):
            raise RecipeError(f"override {override!r} is not key.sub=value", fix="for example train.learning_rate=1e-5")
        section = result
        for part in parts[:-1]:
            inner = section.setdefault(part, {})
            if inner is None:
                inner = section[part] = {}
            if not isinstance(inner, dict):
                raise RecipeError(f"override {override!r}: {part} is {inner!r}, not a section")
            section = inner
        try:
            section[parts[-1]] = _loaded(text) if text else ""
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RecipeError(f"override {override!r}: the value is not YAML", fix="quote it") from error
    return result


def validated(settings: type[SettingsType], values: Mapping[str, object], *, source: str) -> SettingsType:
    """Builds `settings` from a mapping.

    Raises:
        RecipeError: names every wrong key with its full path, its value, and the nearest known key.
    """
    try:
        return settings.model_validate(dict(values))
    except ValidationError as error:
        problems = [_problem(settings, dict(details)) for details in error.errors(include_url=False)]
        raise RecipeError(f"{source}: " + "; ".join(problems), fix="correct the recipe or the override") from error


class _RecipeLoader(yaml.SafeLoader):
    """The safe loader with every key as text (YAML reads the key `on` as true) and no key twice (it takes the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            key.tag = "tag:yaml.org,2002:str"
            if key.value in seen:
                problem = f"key {key.value} stands twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _loaded(text: str) -> object:
    """Plain values out of YAML, which by aliases can stand for values without end.

    Raises:
        ValueError: there are more than `MAX_VALUES`, aliases counted as often as they stand; or a date is no date.
    """
    value: object = yaml.load(text, _RecipeLoader)
    open_values, num_values = [value], 0
    while open_values:
        inner = open_values.pop()
        num_values += 1
        if num_values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values, or itself")
        if isinstance(inner, dict):
            open_values += inner.values()
        elif isinstance(inner, list | tuple | set):
            open_values += inner
    return value


def _deep_copy(value: Mapping[str, object]) -> dict[str, object]:
    return {key: _deep_copy(inner) if isinstance(inner, Mapping) else inner for key, inner in value.items()}


def _problem(settings: type[BaseModel], details: Mapping[str, Any]) -> str:
    location: tuple[str | int, ...] = tuple(details["loc"])
    if details["type"] == "extra_forbidden":
        parts, models = _walked(settings, location[:-1])
        known = sorted({name for model in models for name in model.model_fields})
        return f"{_joined(*parts, location[-1])} is not a known key ({_hint(str(location[-1]), known, 'known keys')})"
    parts, models = _walked(settings, location)
    name = _joined(*parts)
    if details["type"] == "missing":
        return f"{name} is missing"
    if details["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return _tag_problem(name, details, known=[tag for model in models for tag in _tags(model)])
    message = str(details["msg"])
    message = message[0].lower() + message[1:]
    if details["type"] == "value_error":
        return f"{name}: {message.removeprefix('value error, ')}" if name else message.removeprefix("value error, ")
    if message == "input should be greater than 0":
        message = "must be positive"
    message = message.replace("input should", "it should")
    nearest = difflib.get_close_matches(str(details["input"]), re.findall(r"'([^']*)'", message), n=1, cutoff=0.5)
    hint = f" (did you mean {nearest[0]}?)" if nearest and details["type"] == "literal_error" else ""
    return f"{name} is {details['input']!r:.60}: {message}{hint}"


def _tag_problem(name: str, details: Mapping[str, Any], *, known: list[str]) -> str:
    name = _joined(name, details["ctx"]["discriminator"].strip("'"))
    if details["type"] == "union_tag_not_found":
        return f"{name} is missing (known: {', '.join(known)})"
    tag = details["ctx"]["tag"]
    return f"{name} is {tag!r}, which is not known ({_hint(tag, known, 'known')})"


def _hint(wrong: str, known: list[str], label: str) -> str:
    nearest = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}?" if nearest else f"{label}: {', '.join(known)}"


def _joined(*parts: str | int) -> str:
    return ".".join(str(part) for part in parts if part != "")


def _walked(
    settings: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[list[str | int], list[type[BaseModel]]]:
    """The parts of `location` that a recipe spells out, without pydantic's tags of unions; the models found there."""
    models, kept, in_mapping = [settings], list[str | int](), False
    for part in location:
        chosen = [model for model in models if len(models) > 1 and part in _tags(model)]
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        if chosen:
            models = chosen
        elif fields:
            kept.append(part)
            models = [model for field in fields for model in _models_in(field.annotation)]
            in_mapping = any(_has_mapping(field.annotation) for field in fields)
        elif in_mapping or isinstance(part, int):
            kept.append(part)
            in_mapping = False
    return kept, models


def _tags(model: type[BaseModel]) -> list[str]:
    """The literal names under which a model may be chosen in a union discriminated by `name`."""
    field = model.model_fields.get("name")
    return list(get_args(field.annotation)) if field is not None and get_origin(field.annotation) is Literal else []


def _has_mapping(annotation: object) -> bool:
    origin = get_origin(annotation)
    return origin in (dict, Mapping) or any(_has_mapping(argument) for argument in get_args(annotation))


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
