"""An enhancer before the ears: it gets what the peer plays, the ears get what it makes, and nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.runtime.talking import engines, talk, virtually
from voiceagent.core import peer as p
from voiceagent.errors import EngineError


@dataclass
class Keeper:
    """Lets the microphone through and keeps both sides."""

    rate: int = 16_000
    hop: int = 160
    delay_s: float = 0.0
    enabled: bool = True
    near: bytearray = field(default_factory=bytearray)
    far: bytearray = field(default_factory=bytearray)
    broken: bool = False
    closed: bool = False

    def load(self) -> None: ...

    def open(self) -> Keeper:
        return self

    async def process(self, near: bytes, far: bytes) -> bytes:
        if self.broken:
            raise EngineError("broken", stage="enhancer")
        assert len(near) == len(far) == 320
        self.near += near
        self.far += far
        return near

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None: ...


@virtually
async def test_the_enhancer_gets_both_sides_in_step() -> None:
    keeper = Keeper()
    async with talk(replace(engines(["What time is it?"], ["It is noon."]), enhancer=keeper)) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(1)
    assert peer.heard == ["user: What time is it?", "assistant: It is noon."]
    assert keeper.closed and len(keeper.near) == len(keeper.far)
    silent_hops = sum(not any(keeper.far[at : at + 320]) for at in range(0, len(keeper.far), 320))
    played_s = (len(keeper.far) // 320 - silent_hops) * 0.01
    spoken_s = len(peer.sound("resp_1")) / 2 / 24_000
    assert abs(played_s - spoken_s) < 0.05, "all that is sent is heard by the enhancer, when it is played"


@virtually
async def test_a_broken_enhancer_ends_its_session() -> None:
    async with talk(replace(engines(["Hi."]), enhancer=Keeper(broken=True))) as peer:
        await peer.quiet(0.1)
        await peer.running
    assert peer.transport.closed is not None and peer.transport.closed[0] == 1011
