"""Offers and answers: what a browser sends is understood, everything else is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.offers import AUDIO, CHANNEL, FINGERPRINT, TRANSPORT, VIDEO, candidate, offer
from voiceagent.errors import RequestError
from voiceagent.wire.sdp import (
    MAX_CANDIDATES,
    MAX_OFFER,
    Audio,
    Candidate,
    Channel,
    Local,
    Refused,
    answer,
    parse_candidate,
    parse_offer,
)

LOCAL = Local("ufra", "p" * 22, FINGERPRINT, (Candidate("192.0.2.7", 5000, 7, "f"),), 77, "name")


def test_a_browsers_offer() -> None:
    parsed = parse_offer(offer(AUDIO + candidate(1), CHANNEL))
    assert parsed.audio == Audio("0", 111, "sendrecv")
    assert parsed.channel == Channel("1", 5000, 262144)
    assert (parsed.username, parsed.password, parsed.setup) == ("Kx3/", "abcdefghijklmnopqrstuvwx", "actpass")
    assert parsed.fingerprints == (("sha-256", FINGERPRINT),)
    assert parsed.candidates == (Candidate("10.0.0.2", 50000, 2122260223, "1"),)
    assert not parsed.lite


def test_audio_alone_without_candidates_is_enough() -> None:
    parsed = parse_offer(offer(AUDIO, bundle=""))
    assert parsed.channel is None and parsed.candidates == ()


def test_the_answer_takes_the_sections_in_order_and_refuses_video() -> None:
    text = answer(parse_offer(offer(VIDEO, CHANNEL, AUDIO, AUDIO.replace("mid:0", "mid:3"))), LOCAL, 1)
    assert [line for line in text.split("\r\n") if line.startswith(("m=", "a=group", "a=mid"))] == [
        "a=group:BUNDLE 1 0",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "a=mid:2",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "m=audio 0 UDP/TLS/RTP/SAVPF 111 63 9 0 8",
        "a=mid:3",
    ]
    assert text.count("a=candidate:f 1 udp 7 192.0.2.7 5000 typ host\r\n") == 2
    assert "a=setup:active" in text and text.endswith("\r\n")


def test_an_answer_is_an_offer_of_the_same_sections() -> None:
    """What we write can be read: by ourselves, at least."""
    again = parse_offer(answer(parse_offer(offer(AUDIO, CHANNEL)), LOCAL, 1))
    assert again.audio.payload_type == 111 and again.channel == Channel("1", 5000, 262144)
    assert again.candidates == LOCAL.candidates


@pytest.mark.parametrize(
    ("theirs", "ours"), [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")]
)
def test_directions_are_seen_from_here(theirs: str, ours: str) -> None:
    assert parse_offer(offer(AUDIO.replace("sendrecv", theirs))).audio.direction == ours


def test_an_active_peer_gets_a_passive_one() -> None:
    text = answer(parse_offer(offer(AUDIO.replace("actpass", "active"))), LOCAL, 1)
    assert "a=setup:passive" in text


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("", "not a session description"),
        ("hello", "not a session description"),
        ("v=0\r\nhello\r\n", "not a session description"),
        ("v=0\r\n", "not a session description"),
        ("x" * (MAX_OFFER + 1), "longer than"),
        (offer(VIDEO), "no audio"),
        (offer(CHANNEL), "no audio"),
        (offer(AUDIO.replace("opus/48000/2", "PCMU/8000")), "no audio"),
        (offer(AUDIO.replace("m=audio 9", "m=audio 0")), "no audio"),
        (offer(AUDIO.replace("a=mid:0", "a=mid:0 1")), "not a token"),
        (offer(AUDIO.replace("a=rtcp-mux\n", "")), "rtcp-mux"),
        (offer(AUDIO.replace("ice-ufrag:Kx3/", "ice-ufrag:K")), "ice-ufrag"),
        (offer(AUDIO.replace("ice-pwd:abc", "ice-pw:abc")), "ice-pwd"),
        (offer(AUDIO.replace("fingerprint", "finger")), "fingerprint"),
        (offer(AUDIO.replace("sha-256 ", "sha-256")), "fingerprint"),
        (offer(AUDIO.replace("actpass", "holdconn")), "setup"),
        (offer(AUDIO, CHANNEL, bundle=""), "bundle"),
        (offer(AUDIO, "m=audio\n"), "m= line"),
        (offer(AUDIO, *[VIDEO] * 20), "too many"),
        (offer(AUDIO + "".join(candidate(number) for number in range(1000))), "more than 100 candidates"),
    ],
)
def test_what_is_refused(broken: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        parse_offer(broken)
    assert refused.value.code == "invalid_sdp" and len(str(refused.value)) < 200


def test_a_hundred_candidates_are_taken() -> None:
    assert len(parse_offer(offer(AUDIO + "".join(map(candidate, range(MAX_CANDIDATES))))).candidates) == 100


@pytest.mark.parametrize(
    "line",
    [
        "1 1 tcp 1 10.0.0.1 9 typ host tcptype active",
        "1 2 udp 1 10.0.0.1 9 typ host",
        "1 1 udp 1 a1b2.local 9 typ host",
        "1 1 udp 1 internal.example 9 typ host",
        "1 1 udp 1 10.0.0.1 0 typ host",
        "1 1 udp x 10.0.0.1 9 typ host",
        "1 1 udp 1 10.0.0.1 9 typ prflx",
        "1 1 udp 1 10.0.0.1 9",
        "",
    ],
)
def test_candidates_that_are_left_out(line: str) -> None:
    assert parse_candidate(line) is None


def test_a_relay_candidate_says_where_it_comes_from() -> None:
    relay = Candidate("192.0.2.1", 9, 1, "f", "relay", ("10.0.0.1", 8))
    assert relay.line() == "candidate:f 1 udp 1 192.0.2.1 9 typ relay raddr 10.0.0.1 rport 8"
    parsed = parse_candidate(relay.line())
    assert parsed is not None and (parsed.kind, parsed.port) == ("relay", 9)


def test_a_refused_section_keeps_its_name() -> None:
    assert parse_offer(offer(AUDIO, VIDEO)).sections[1] == Refused(("video", "9", "UDP/TLS/RTP/SAVPF", "96"), "2")


LINES = [*AUDIO.splitlines(), *CHANNEL.splitlines(), *TRANSPORT.splitlines(), "v=0", "a=", "m=", "=", "a=mid:\0"]


@given(st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=40)), max_size=40))
def test_any_text_is_understood_or_refused(lines: list[str]) -> None:
    try:
        parsed = parse_offer("\r\n".join(["v=0", *lines]))
    except RequestError:
        return
    assert answer(parsed, LOCAL, 1).startswith("v=0")
