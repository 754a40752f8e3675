"""Keys, client secrets, origins, and where the server may listen."""

from __future__ import annotations

import pytest

from voiceagent.auth import Grant, KeyRing, check_exposure, is_loopback, origin_allowed, presented_key
from voiceagent.errors import ConfigError, Overloaded


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_keys_everybody_may() -> None:
    ring = KeyRing()
    assert not ring.required and ring.check(None) == ring.check("anything") == Grant()


def test_with_keys_only_they_do() -> None:
    ring = KeyRing(["first", "s\u00e9cond"])
    assert ring.required and ring.check("first") == ring.check("s\u00e9cond") == Grant()
    assert ring.check(None) is None and ring.check("") is None and ring.check("firs") is None


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_a_mistake(key: str) -> None:
    with pytest.raises(ConfigError):
        KeyRing([key])


def test_a_secret_opens_sessions_until_it_expires() -> None:
    clock = Clock()
    ring = KeyRing(["key"], clock=clock)
    value, expires_at = ring.issue(60, {"instructions": "x"})
    assert value.startswith("ek_") and expires_at == 1060
    assert ring.check(value) == Grant(secret=True, session={"instructions": "x"})
    clock.now = 1060.0
    assert ring.check(value) is None


def test_secrets_are_bounded_and_the_dead_make_room() -> None:
    clock = Clock()
    ring = KeyRing(["key"], max_secrets=2, clock=clock)
    ring.issue(10, None)
    ring.issue(20, None)
    with pytest.raises(Overloaded):
        ring.issue(10, None)
    clock.now = 1011.0
    assert ring.issue(10, None)[1] == 1021


def test_nothing_secret_is_shown() -> None:
    ring = KeyRing(["key-in-clear"])
    value, _ = ring.issue(60, None)
    assert "key-in-clear" not in repr(ring) and value not in repr(ring)
    assert "key-in-clear" not in repr(vars(ring)) and value not in repr(vars(ring))


def test_three_ways_to_show_a_key() -> None:
    assert presented_key({"authorization": "Bearer abc"}) == "abc"
    assert presented_key({"authorization": "bearer  abc "}) == "abc"
    assert presented_key({"authorization": "Basic abc"}) is None
    assert presented_key({"api-key": "abc"}) == "abc"
    assert presented_key({}, ["realtime", "openai-insecure-api-key.abc"]) == "abc"
    assert presented_key({}, ["realtime"]) is None


@pytest.mark.parametrize(
    ("origin", "host", "fine"),
    [
        (None, "anything", True),  # not a browser
        ("http://localhost:3000", "127.0.0.1:8080", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("https://[::1]:8080", "[::1]:8080", True),
        ("http://192.168.1.5:8080", "192.168.1.5:8080", True),
        ("http://192.168.1.6:8080", "192.168.1.5:8080", False),
        ("https://evil.example", "127.0.0.1:8080", False),
        ("http://evil.example:8080", "evil.example:8080", False),  # DNS rebinding: the name points here
        ("http://localhost.evil.example", "127.0.0.1", False),
        ("https://good.example", "127.0.0.1:8080", True),
        ("null", "127.0.0.1:8080", False),
        ("file://", "127.0.0.1:8080", False),
        ("http://[", "127.0.0.1:8080", False),
    ],
)
def test_origins(origin: str | None, host: str, fine: bool) -> None:
    assert origin_allowed(origin, host, ("https://good.example",)) is fine


def test_any_origin_when_so_configured() -> None:
    assert origin_allowed("https://evil.example", "127.0.0.1", ("*",))


def test_loopback() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "app.localhost"))
    assert not any(is_loopback(host) for host in ("", "0.0.0.0", "::", "192.168.0.1", "example.org"))


def test_no_address_that_others_reach_without_keys() -> None:
    for host in ("0.0.0.0", "::", "", "192.168.0.1", "example.org"):
        with pytest.raises(ConfigError, match="API key"):
            check_exposure(host, KeyRing(), insecure=False)
        check_exposure(host, KeyRing(), insecure=True)
        check_exposure(host, KeyRing(["k"]), insecure=False)
    check_exposure("127.0.0.1", KeyRing(), insecure=False)
