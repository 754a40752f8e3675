"""The jitter buffer: order, losses, lateness, pauses and limits, by loss patterns and by random ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.jitter import (
    CAPACITY,
    FILL_S,
    MAX_DROPOUT,
    MAX_MISORDER,
    MAX_WAIT_S,
    MIN_WAIT_S,
    STALL_S,
    JitterBuffer,
    Lost,
    Packet,
    Slot,
)

FRAME = 960  # 20 ms at 48 kHz


def push(buffer: JitterBuffer, number: int, now: float, *, start: int = 0, timestamp: int | None = None) -> list[Slot]:
    """Packet `number` of a stream whose sequence numbers begin at `start`; its payload is its number."""
    at = number * FRAME if timestamp is None else timestamp
    return buffer.push((start + number) & 0xFFFF, at & 0xFFFFFFFF, number.to_bytes(8, "big"), FRAME, now)


def given_out(slots: list[Slot]) -> list[int | str]:
    """Numbers of packets, and "-" for every lost frame."""
    told: list[int | str] = []
    for slot in slots:
        match slot:
            case Packet():
                told.append(int.from_bytes(slot.payload, "big"))
            case Lost():
                assert slot.samples % FRAME == 0
                told += ["-"] * (slot.samples // FRAME)
    return told


def test_what_is_in_order_never_waits() -> None:
    buffer = JitterBuffer()
    for number in range(200):
        late = 0.015 * (number % 3)
        assert given_out(push(buffer, number, number * 0.02 + late)) == [number]
    assert buffer.held == 0 and buffer.lost == 0


def test_a_swap_is_put_right_at_once() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    assert push(buffer, 2, 0.02) == []
    assert given_out(push(buffer, 1, 0.021)) == [1, 2]
    assert buffer.pop(1.0 / 50) == []


def test_a_missing_packet_is_waited_for_and_then_concealed() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    assert push(buffer, 2, 0.04) == []
    deadline = buffer.deadline
    assert deadline == 0.04 + MIN_WAIT_S
    assert buffer.pop(deadline - 0.001) == []
    assert given_out(buffer.pop(deadline)) == ["-", 2]
    assert buffer.lost == 1
    assert push(buffer, 1, deadline + 0.01) == [] and buffer.late == 1


def test_no_delay_is_left_after_losses() -> None:
    """5 % lost for 5 s: whatever is given out afterwards is given out when it comes."""
    buffer = JitterBuffer()
    for number in range(250):
        if number % 20 != 3:
            push(buffer, number, number * 0.02)
        buffer.pop(number * 0.02)
    for number in range(250, 300):
        assert given_out(push(buffer, number, number * 0.02)) == [number]
    assert buffer.lost == 13 and buffer.held == 0


def test_a_packet_that_comes_twice_counts_once() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    push(buffer, 2, 0.04)
    assert push(buffer, 2, 0.041) == [] and buffer.duplicate == 1
    assert given_out(push(buffer, 1, 0.042)) == [1, 2]


def test_the_wait_follows_the_jitter_between_its_bounds() -> None:
    buffer = JitterBuffer()
    assert buffer.wait_s == MIN_WAIT_S
    for number in range(100):
        push(buffer, number, number * 0.02 + (0.05 if number % 2 else 0.0))
    assert buffer.wait_s == MAX_WAIT_S
    for number in range(100, 400):
        push(buffer, number, number * 0.02)
    assert buffer.wait_s == MIN_WAIT_S


def test_numbers_and_timestamps_wrap() -> None:
    buffer = JitterBuffer()
    told: list[int | str] = []
    for number in range(10):
        at = (2**32 - 5 * FRAME) + number * FRAME
        told += given_out(push(buffer, number, number * 0.02, start=65533, timestamp=at))
    assert told == list(range(10))


def test_when_nothing_comes_silence_is_made_up_for_a_while() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    assert buffer.pop(STALL_S - 0.001) == []
    assert buffer.deadline == STALL_S
    made = sum(slot.samples for slot in buffer.pop(STALL_S))
    assert STALL_S <= made / 48000 <= STALL_S + 0.02
    for step in range(1000):
        now = STALL_S + step * 0.02
        made += sum(slot.samples for slot in buffer.pop(now))
    assert made == FILL_S * 48000
    assert buffer.deadline is None


def test_a_pause_of_the_sender_is_as_long_as_it_was() -> None:
    """The timestamps go on where the sequence numbers do not: half was made up already, half is added."""
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    made = sum(slot.samples for slot in buffer.pop(STALL_S))
    slots = push(buffer, 1, 1.0, timestamp=50 * FRAME)
    assert isinstance(slots[0], Lost) and slots[0].samples + made == 49 * FRAME
    assert isinstance(slots[1], Packet)


def test_a_pause_is_never_made_up_beyond_the_limit() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    slots = push(buffer, 1, 60.0, timestamp=3000 * FRAME)
    assert slots[0] == Lost(round(FILL_S * 48000))


def test_a_burst_after_a_stall_is_all_given_out() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    buffer.pop(0.5)
    told = [given_out(push(buffer, number, 0.5)) for number in range(1, 26)]
    assert told == [[number] for number in range(1, 26)]


def test_what_is_held_is_bounded() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    told: list[int | str] = []
    for number in range(2, CAPACITY + 3):
        told += given_out(push(buffer, number, 0.001))
    assert told == ["-", *range(2, CAPACITY + 3)]


def test_one_stray_packet_is_left_out_and_two_are_a_new_stream() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 0.0)
    assert push(buffer, MAX_DROPOUT + 100, 0.02) == []
    assert given_out(push(buffer, 1, 0.02)) == [1]
    assert push(buffer, 20_000, 0.04) == []
    assert given_out(push(buffer, 20_001, 0.06)) == [20_001]
    assert given_out(push(buffer, 20_002, 0.08)) == [20_002]
    assert push(buffer, 20_002 - MAX_MISORDER - 10, 0.1) == [] and buffer.late == 0


def test_nothing_is_due_before_anything_came() -> None:
    buffer = JitterBuffer()
    assert buffer.deadline is None and buffer.pop(100.0) == []


@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(0, 0.3)), min_size=1, max_size=120),
    st.integers(0, 65535),
)
def test_any_arrival_keeps_order_and_loses_nothing_that_was_in_time(
    arrivals: list[tuple[int, float]], start: int
) -> None:
    """Random order, repetition, loss and jitter: numbers only rise, and every packet is given out, late or double."""
    buffer = JitterBuffer()
    told: list[int] = []
    events = sorted((number * 0.02 + delay, number) for number, delay in arrivals)
    base = events[0][1]

    def take(slots: list[Slot]) -> None:
        told.extend(int.from_bytes(slot.payload, "big") for slot in slots if isinstance(slot, Packet))

    for now, number in events:
        take(buffer.pop(now))
        take(buffer.push((start + number) & 0xFFFF, number * FRAME, number.to_bytes(8, "big"), FRAME, now))
        assert buffer.held <= CAPACITY
    take(buffer.pop(100.0))
    assert told == sorted(set(told))
    assert told[0] == base
    assert len(told) + buffer.late + buffer.duplicate == len(events)
    assert buffer.held == 0 and buffer.deadline is None
