"""Typed reading of untrusted JSON objects: every wrong type or value is a RequestError that names the field's path.

Used by the codecs. A member that is null counts as absent unless the protocol gives null a meaning (`has`, `get`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from voiceagent.errors import RequestError

MAX_ID = 512  # characters
MAX_TEXT = 256 * 1024  # characters; what is longer is no conversation, and thousands of items may be kept


class Fields:
    """One JSON object at `path` ("" is the message itself). Raises RequestError if `value` is no object."""

    __slots__ = ("_members", "path")

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object")
        self._members: dict[str, Any] = value
        self.path = path

    def at(self, key: str) -> str:
        """The path of a member."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the member is there, null or not."""
        return key in self._members

    def get(self, key: str) -> Any:
        """The member as it is; None when absent."""
        return self._members.get(key)

    def text(self, key: str, limit: int | None = MAX_TEXT) -> str | None:
        """A string of at most `limit` characters."""
        value = self._members.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise wrong_type(self.at(key), "a string")
        if limit is not None and len(value) > limit:
            raise too_long(self.at(key), limit)
        return value

    def required(self, key: str, limit: int | None = MAX_TEXT) -> str:
        """A string that must be there."""
        value = self.text(key, limit)
        if value is None:
            raise RequestError(
                f"Missing required parameter: '{self.at(key)}'.", code="missing_required_parameter", param=self.at(key)
            )
        return value

    def identity(self, key: str) -> str | None:
        """An id: a string of 1 to 512 characters."""
        value = self.text(key)
        if value is not None and not 0 < len(value) <= MAX_ID:
            raise wrong_value(self.at(key), f"a string of 1 to {MAX_ID} characters")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self._members.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise wrong_type(self.at(key), "a boolean")

    def number(self, key: str, low: float, high: float) -> float | None:
        """A number in [low, high]; an integer stays one."""
        value = self._members.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(self.at(key), "a number")
        if not low <= value <= high:
            raise wrong_value(self.at(key), f"between {low:g} and {high:g}")
        return value

    def choice(self, key: str, allowed: Collection[str]) -> str | None:
        """One of some strings."""
        value = self.text(key)
        if value is not None and value not in allowed:
            raise wrong_value(self.at(key), " or ".join(repr(name) for name in allowed))
        return value

    def inner(self, key: str) -> Fields | None:
        """An object."""
        value = self._members.get(key)
        return None if value is None else Fields(value, self.at(key))

    def array(self, key: str) -> list[Any] | None:
        """A list of anything."""
        value = self._members.get(key)
        if value is None or isinstance(value, list):
            return value
        raise wrong_type(self.at(key), "an array")

    def objects(self, key: str) -> Iterator[Fields]:
        """The objects of a list; none when the list is absent."""
        for index, value in enumerate(self.array(key) or ()):
            yield Fields(value, f"{self.at(key)}[{index}]")

    def raw(self) -> dict[str, Any]:
        """The object itself, to be echoed."""
        return self._members


def wrong_type(path: str, wanted: str) -> RequestError:
    """The error for a member of the wrong type."""
    return RequestError(
        f"Invalid type for '{path or 'event'}': expected {wanted}.", code="invalid_type", param=path or None
    )


def wrong_value(path: str, wanted: str) -> RequestError:
    """The error for a member of the right type with an impossible value."""
    return RequestError(f"Invalid value for '{path}': expected {wanted}.", code="invalid_value", param=path)


def too_long(path: str, limit: int) -> RequestError:
    """The error for what is too long to be kept or echoed."""
    message = f"'{path or 'event'}' is longer than {limit} characters."
    return RequestError(message, code="string_above_max_length", param=path or None)


def unsupported(path: str, what: str) -> RequestError:
    """The error for what the protocol knows and this server does not do."""
    return RequestError(f"{what} is not supported by this server.", code="unsupported", param=path)
