"""Who may take a session up again: tokens, keys, and what is forgotten when. The sockets are in tests/faults/."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from tests.transports.test_resumable import Wire
from tests.wire.stories import codec
from voiceagent.core.peer import PeerLost, PeerResumed
from voiceagent.errors import Overloaded, RequestError, TransportError
from voiceagent.resuming import MAX_PARTINGS, MAX_RETURNING, NOT_FOUND, Resuming
from voiceagent.wire.openai_realtime import RealtimeCodec

ON = {"voiceagent": {"events": True}}


def extended() -> RealtimeCodec:
    made = codec()
    made.preset(ON)
    return made


def token_of(codec: RealtimeCodec) -> str:
    assert codec.resume_offer is not None
    return codec.resume_offer.token


def refused(resuming: Resuming, token: str, key: str | None) -> None:
    with pytest.raises(RequestError) as answer:
        resuming.check(token, key)
    assert answer.value.code == NOT_FOUND and (not token or token not in str(answer.value))


async def test_a_token_opens_its_session_once_to_its_own_key() -> None:
    resuming, first, second = Resuming(30.0), extended(), extended()
    with resuming.keep(wire := Wire(), first, "a-key") as transport:
        token = token_of(first)
        assert len(token) >= 43, "32 random bytes"
        for wrong, key in (
            (token, None),
            (token, "another"),
            ("", "a-key"),
            (token[:-1], "a-key"),
            ("\ud800", "a-key"),
        ):
            refused(resuming, wrong, key)
        resuming.check(token, "a-key")
        wire.leave()
        assert await transport.receive() == PeerLost() and resuming.away == 1
        carried = asyncio.create_task(resuming.carry(token, "a-key", Wire(), second))
        assert await transport.receive() == PeerResumed() and resuming.away == 0
        refused(resuming, token, "a-key")
        assert token_of(second) != token
        resuming.check(token_of(second), "a-key")
        await transport.aclose(1000, "done")
        await carried
    refused(resuming, token_of(second), "a-key")


async def test_nothing_is_offered_where_it_is_off() -> None:
    resuming, first = Resuming(0.0), extended()
    with resuming.keep(wire := Wire(), first, None) as transport:
        assert first.resume_offer is None
        refused(resuming, "", None)
        wire.leave()
        with pytest.raises(TransportError):
            await transport.receive()
        await transport.aclose(1000, "done")


async def test_a_session_without_the_extension_is_not_kept() -> None:
    resuming = Resuming(30.0)
    with resuming.keep(wire := Wire(), codec(), None) as transport:
        wire.leave()
        with pytest.raises(TransportError):
            await transport.receive()
        await transport.aclose(1000, "done")


async def test_only_so_many_connections_of_a_session_are_made_at_a_time() -> None:
    resuming, latest = Resuming(30.0), extended()
    with resuming.keep(Wire(), latest, "key") as transport:
        token = token_of(latest)
        with ExitStack() as making:
            for _ in range(MAX_RETURNING):
                making.enter_context(resuming.returning(token, "key"))
            with pytest.raises(Overloaded), resuming.returning(token, "key"):
                pass
        with pytest.raises(RequestError), resuming.returning(token, "another's"):
            pass
        with resuming.returning(token, "key"):
            pass
        await transport.aclose(1000, "done")


async def test_a_session_is_not_resumed_faster_than_its_connections_close() -> None:
    class Stuck(Wire):
        """A dead connection, which takes its time to close."""

        async def aclose(self, code: int, reason: str) -> None:
            await super().aclose(code, reason)
            await released.wait()

    released = asyncio.Event()
    resuming, latest = Resuming(30.0), extended()
    carried = []
    with resuming.keep(Stuck(), latest, None) as transport:
        for _ in range(MAX_PARTINGS):
            token, latest = token_of(latest), extended()
            carried.append(asyncio.create_task(resuming.carry(token, None, Stuck(), latest)))
            assert await transport.receive() == PeerLost()
            assert await transport.receive() == PeerResumed()
        with pytest.raises(Overloaded):
            resuming.check(token_of(latest), None)
        released.set()
        await asyncio.gather(*carried[:-1])
        while transport.partings:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0)
        resuming.check(token_of(latest), None)
        await transport.aclose(1000, "done")
        await carried[-1]
