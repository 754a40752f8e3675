"""Reads one TOML table into a frozen dataclass: unknown keys, wrong types and values out of range are ConfigErrors.

A field says more about itself in its metadata: "doc" (config_table.py prints it), "min", "max", "above" (exclusive).
Durations (names that end in _s or _ms) are never negative. Secrets (SECRETS) are refused in files. Used by config.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from voiceagent.config_source import Keys, Source
from voiceagent.errors import ConfigError

T = TypeVar("T")

SECRETS = ("api_key", "keys", "otlp_headers", "turn_password", "turn_secret")


def read(source: Source, table: Keys, cls: type[T], *, apart: Collection[str] = ()) -> T:
    """An instance of dataclass `cls` from the table; what is not written keeps its default.

    `apart` names keys of the table that the caller reads itself. Raises ConfigError.
    """
    written = source.table(table)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    allowed = sorted(({*fields} - {*SECRETS}) | {*apart})
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key in written:
        if key in apart:
            continue
        if key not in fields:
            raise source.error((*table, key), unknown("key", key, allowed, f" in [{'.'.join(table)}]"))
        if key in SECRETS:
            raise source.error((*table, key), f"[{'.'.join(table)}] {key} is a secret: set it in the environment")
        values[key] = _field(source, (*table, key), fields[key], hints[key], written[key])
    for key, field in fields.items():
        if key not in values and _required(field):
            raise source.error(table, f"[{'.'.join(table)}] needs {key} ({expects(hints[key])})")
    try:
        return cls(**values)
    except (ValueError, TypeError, ConfigError) as error:
        raise source.error(table, f"[{'.'.join(table)}] {error}") from error


def unknown(what: str, name: str, allowed: Sequence[str], where: str = "") -> str:
    """The words for a name that is not one of those allowed."""
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f' did you mean "{near[0]}"?' if near else ""
    return f'unknown {what} "{name}"{where};{hint} allowed: {", ".join(allowed)}'


def expects(hint: Any) -> str:
    """A type in words: "a number", "one of: low, high", "a list of text"."""
    if hint in (Any, object):
        return "any value"
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if hint in plain:
        return plain[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of: " + ", ".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(expects(choice) for choice in arguments if choice is not type(None))
    if _is_sequence(origin):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)} values"
        return "a list of " + _several(expects(arguments[0]))
    if _is_mapping(origin):
        return "a table of " + _several(expects(arguments[1]))
    return "a table"


def _several(words: str) -> str:
    return f"{words.removeprefix('a ')}s" if words.startswith("a ") else words


class _Wrong(Exception):
    """A value that is not of the type wanted."""


def _field(source: Source, keys: Keys, field: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    label = f"[{'.'.join(keys[:-1])}] {keys[-1]}"
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read(source, keys, hint)
    try:
        result = _convert(hint, value)
    except _Wrong:
        raise source.error(keys, f"{label} must be {expects(hint)}, not {_shown(value)}") from None
    limits = _limits(field)
    if isinstance(result, (int, float)) and not isinstance(result, bool) and not _within(result, limits):
        raise source.error(keys, f"{label} must be {_range(limits)}, not {_shown(value)}")
    return result


def _convert(hint: Any, value: Any) -> Any:
    """`value` as `hint` wants it. Raises _Wrong."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return value
    if origin is Literal:
        # 1 == True: compare types too
        if any(type(value) is type(choice) and value == choice for choice in arguments):
            return value
    elif origin in (Union, types.UnionType):
        for choice in arguments:
            if choice is not type(None):
                try:
                    return _convert(choice, value)
                except _Wrong:
                    continue
    elif _is_sequence(origin) and isinstance(value, list):
        return _sequence(origin, arguments, value)
    elif _is_mapping(origin) and isinstance(value, dict):
        return {key: _convert(arguments[1], item) for key, item in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # false for nan too
            return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint in (bool, int, str) and type(value) is hint:
        return value
    raise _Wrong


def _sequence(origin: Any, arguments: tuple[Any, ...], value: list[Any]) -> Any:
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise _Wrong
        return tuple(_convert(hint, item) for hint, item in zip(arguments, value, strict=True))
    items = [_convert(arguments[0], item) for item in value]
    return items if origin is list else tuple(items)


def _is_sequence(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _limits(field: dataclasses.Field[Any]) -> dict[str, float]:
    limits = {name: field.metadata[name] for name in ("min", "max", "above") if name in field.metadata}
    if field.name.endswith(("_s", "_ms")) and "above" not in limits:
        limits.setdefault("min", 0)
    return limits


def _within(value: float, limits: Mapping[str, float]) -> bool:
    return (
        value >= limits.get("min", -math.inf)
        and value <= limits.get("max", math.inf)
        and ("above" not in limits or value > limits["above"])
    )


def _range(limits: Mapping[str, float]) -> str:
    words = {"min": "at least", "above": "more than", "max": "at most"}
    return " and ".join(f"{words[name]} {limits[name]}" for name in words if name in limits)


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'text "{value if len(value) <= 40 else value[:40] + "..."}"'
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"{type(value).__name__} {value}"
