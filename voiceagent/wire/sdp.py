"""Session descriptions (RFC 8866, with JSEP's attributes), sans I/O: a browser's offer in, our answer out.

Decides what we take part in: one Opus audio section and one data channel section over one bundled transport. Every
other section is refused by port 0 (RFC 3264, 6). Called by transports/webrtc.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from voiceagent.errors import RequestError

MAX_OFFER = 128 * 1024  # characters; a browser's has 2 to 10 thousand
MAX_SECTIONS = 16
MAX_CANDIDATES = 100  # RFC 8445, 19.5.1: as many checks as ICE should make
MAX_MESSAGE = 256 * 1024  # bytes of one message on the data channel, as we announce it
_TOKEN = re.compile(r"[A-Za-z0-9+/_.:-]{1,256}")

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_REVERSED: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where a peer can be reached (RFC 8839, 5.1), UDP only."""

    host: str  # an address; a name (mDNS) is left out: the peer's own checks show where it is
    port: int
    priority: int
    foundation: str
    kind: str = "host"
    related: tuple[str, int] | None = None

    def line(self) -> str:
        """As an attribute's value."""
        related = f" raddr {self.related[0]} rport {self.related[1]}" if self.related else ""
        return f"candidate:{self.foundation} 1 udp {self.priority} {self.host} {self.port} typ {self.kind}{related}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A section we take no part in: the words of its m= line, and its name."""

    words: tuple[str, ...]
    mid: str


@dataclass(frozen=True, slots=True)
class Audio:
    """The section of the voice."""

    mid: str
    payload_type: int
    direction: Direction


@dataclass(frozen=True, slots=True)
class Channel:
    """The section of the data channels."""

    mid: str
    port: int = 5000
    max_message: int = 65536  # RFC 8841, 6.1: what holds when nothing is said


@dataclass(frozen=True, slots=True)
class Offer:
    """What a peer offers, checked. `sections` in the order of its m= lines."""

    sections: tuple[Audio | Channel | Refused, ...]
    audio: Audio
    channel: Channel | None
    username: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]  # algorithm and value
    setup: str  # "actpass", "active" or "passive"
    lite: bool = False
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Local:
    """Our end of the transport, for the answer."""

    username: str
    password: str
    fingerprint: str  # SHA-256 of our certificate, hexadecimal with colons
    candidates: tuple[Candidate, ...]
    ssrc: int
    cname: str


@dataclass(slots=True)
class _Section:
    words: tuple[str, ...] = ()
    lines: list[tuple[str, str]] = field(default_factory=list)  # attributes: name, value

    def first(self, name: str, otherwise: str = "") -> str:
        return next((value for key, value in self.lines if key == name), otherwise)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name]


def refusal(message: str) -> RequestError:
    """The error of every offer that cannot be answered."""
    return RequestError(message, code="invalid_sdp", param="sdp")


def parse_offer(text: str) -> Offer:
    """Raises RequestError for what is no offer of audio in Opus over DTLS-SRTP."""
    session, sections = _split(text)
    told: list[Audio | Channel | Refused] = []
    chosen: dict[str, _Section] = {}
    for section in sections:
        told.append(one := _understood(section, chosen))
        if not isinstance(one, Refused):
            chosen["audio" if isinstance(one, Audio) else "channel"] = section
    audio = next((one for one in told if isinstance(one, Audio)), None)
    if audio is None:
        raise refusal("The offer has no audio section with Opus.")
    main = chosen["audio"]
    _check_bundle(session, told)
    lines = [line for section in chosen.values() for line in section.all("candidate")]
    if len(lines) > MAX_CANDIDATES:
        raise refusal(f"The offer has more than {MAX_CANDIDATES} candidates.")
    fingerprints = [value.split() for value in main.all("fingerprint") or session.all("fingerprint")]
    if not fingerprints or any(len(words) != 2 for words in fingerprints):
        raise refusal("The offer has no DTLS fingerprint.")
    setup = main.first("setup", session.first("setup", "actpass"))
    if setup not in ("actpass", "active", "passive"):
        raise refusal("The offer's 'setup' is not one of actpass, active, passive.")
    return Offer(
        sections=tuple(told),
        audio=audio,
        channel=next((one for one in told if isinstance(one, Channel)), None),
        username=_credential(main.first("ice-ufrag", session.first("ice-ufrag")), "ice-ufrag", 4),
        password=_credential(main.first("ice-pwd", session.first("ice-pwd")), "ice-pwd", 22),
        fingerprints=tuple((words[0].lower(), words[1].upper()) for words in fingerprints),
        setup=setup,
        lite=any(name == "ice-lite" for name, _ in session.lines),
        candidates=tuple(dict.fromkeys(known for line in lines if (known := parse_candidate(line)) is not None)),
    )


def answer(offer: Offer, local: Local, session_id: int) -> str:
    """The answer: every section of the offer in its order, ours bundled, with all candidates."""
    ours = [section.mid for section in offer.sections if not isinstance(section, Refused)]
    lines = ["v=0", f"o=- {session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {' '.join(ours)}"]
    lines += ["a=msid-semantic: WMS voiceagent"]
    for section in offer.sections:
        match section:
            case Refused():
                kind, _, protocol, *formats = section.words
                lines += [f"m={kind} 0 {protocol} {' '.join(formats)}", "c=IN IP4 0.0.0.0", "a=inactive"]
                lines += [f"a=mid:{section.mid}"] if section.mid else []
            case Audio():
                lines += _audio_lines(section, local) + _transport_lines(section.mid, offer, local)
            case Channel():
                lines += ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0"]
                lines += _transport_lines(section.mid, offer, local)
                lines += ["a=sctp-port:5000", f"a=max-message-size:{MAX_MESSAGE}"]
    return "\r\n".join(lines) + "\r\n"


def parse_candidate(line: str) -> Candidate | None:
    """A candidate attribute's value, with or without "candidate:"; None for what we cannot or will not use."""
    words = line.strip().removeprefix("candidate:").split()
    if len(words) < 8 or words[1] != "1" or words[2].lower() != "udp" or words[6] != "typ":
        return None
    if not (_is_number(words[3]) and _is_number(words[5]) and 0 < int(words[5]) < 65536):
        return None
    if words[7] not in ("host", "srflx", "relay") or not re.fullmatch(r"[0-9a-fA-F:.]{2,45}", words[4]):
        return None
    return Candidate(words[4], int(words[5]), int(words[3]) & 0xFFFFFFFF, words[0][:32], words[7])


# --- reading ----------------------------------------------------------------------------------------------------


def _split(text: str) -> tuple[_Section, list[_Section]]:
    if len(text) > MAX_OFFER:
        raise refusal(f"The offer is longer than {MAX_OFFER} characters.")
    sections = [_Section()]
    for line in text.splitlines():
        kind, equals, value = line.strip().partition("=")
        if not equals:
            if kind:
                raise refusal("The offer is not a session description (RFC 8866).")
            continue
        if kind == "m":
            words = tuple(value.split())
            if len(words) < 4 or len(sections) > MAX_SECTIONS:
                raise refusal("The offer has an m= line that is too short, or too many of them.")
            sections.append(_Section(words))
        elif kind == "a":
            name, _, rest = value.partition(":")
            sections[-1].lines.append((name, rest.strip()))
    if len(sections) == 1 or not text.lstrip().startswith("v=0"):
        raise refusal("The offer is not a session description (RFC 8866).")
    return sections[0], sections[1:]


def _understood(section: _Section, chosen: dict[str, _Section]) -> Audio | Channel | Refused:
    """What the section is to us. A second one of a kind is refused, like everything else."""
    kind, port, protocol = section.words[:3]
    mid = section.first("mid")
    if mid and not _TOKEN.fullmatch(mid):
        raise refusal("The offer has a section whose name ('mid') is not a token.")
    live = bool(mid) and (port != "0" or any(name == "bundle-only" for name, _ in section.lines))
    if live and kind == "audio" and "audio" not in chosen and "SAVP" in protocol:
        number = _opus(section)
        if number is not None:
            if not any(name == "rtcp-mux" for name, _ in section.lines):
                raise refusal("The offer's audio section has no 'rtcp-mux'.")
            return Audio(mid, number, _direction(section))
    if live and kind == "application" and "channel" not in chosen and "SCTP" in protocol:
        port, limit = section.first("sctp-port"), section.first("max-message-size")
        return Channel(
            mid,
            int(port) if _is_number(port) and 0 < int(port) < 65536 else 5000,
            (int(limit) or MAX_MESSAGE) if _is_number(limit) else 65536,
        )
    return Refused(section.words, mid)


def _opus(section: _Section) -> int | None:
    """The payload type of Opus, if it is offered."""
    for value in section.all("rtpmap"):
        number, _, codec = value.partition(" ")
        if codec.strip().lower() == "opus/48000/2" and _is_number(number) and int(number) < 128:
            return int(number)
    return None


def _direction(section: _Section) -> Direction:
    return next((_REVERSED[name] for name, _ in section.lines if name in _REVERSED), "sendrecv")


def _check_bundle(session: _Section, told: list[Audio | Channel | Refused]) -> None:
    wanted = {one.mid for one in told if not isinstance(one, Refused)}
    groups = [set(words[1:]) for value in session.all("group") if (words := value.split())[:1] == ["BUNDLE"]]
    if len(wanted) > 1 and not any(wanted <= group for group in groups):
        raise refusal("The offer does not bundle its sections into one transport (RFC 9143).")


def _credential(value: str, name: str, least: int) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9+/_=-]{{{least},256}}", value):
        raise refusal(f"The offer has no '{name}', or it is malformed.")
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


# --- writing ----------------------------------------------------------------------------------------------------


def _audio_lines(audio: Audio, local: Local) -> list[str]:
    number = audio.payload_type
    return [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {number}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=rtcp-mux",
        f"a={audio.direction}",
        f"a=rtpmap:{number} opus/48000/2",
        f"a=fmtp:{number} minptime=10;useinbandfec=1;maxaveragebitrate=32000",
        "a=ptime:20",
        "a=msid:voiceagent voice",
        f"a=ssrc:{local.ssrc} cname:{local.cname}",
    ]


def _transport_lines(mid: str, offer: Offer, local: Local) -> list[str]:
    setup = "passive" if offer.setup == "active" else "active"
    lines = [f"a=mid:{mid}", f"a=ice-ufrag:{local.username}", f"a=ice-pwd:{local.password}"]
    lines += [f"a=fingerprint:sha-256 {local.fingerprint}", f"a=setup:{setup}"]
    return lines + [f"a={candidate.line()}" for candidate in local.candidates] + ["a=end-of-candidates"]
