"""SDP offers for tests: a browser's, cut to what matters, and ways to break it."""

from __future__ import annotations

FINGERPRINT = ":".join(["AB"] * 32)
TRANSPORT = f"""a=ice-ufrag:Kx3/
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=fingerprint:sha-256 {FINGERPRINT}
a=setup:actpass
"""
AUDIO = f"""m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8
c=IN IP4 0.0.0.0
{TRANSPORT}a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
"""
VIDEO = f"""m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
{TRANSPORT}a=mid:2
a=sendrecv
a=rtcp-mux
a=rtpmap:96 VP8/90000
"""
CHANNEL = f"""m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
{TRANSPORT}a=mid:1
a=sctp-port:5000
a=max-message-size:262144
"""


def offer(*sections: str, bundle: str = "0 1 2") -> str:
    """A whole offer of these sections."""
    head = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\n"
    head += f"a=group:BUNDLE {bundle}\n" if bundle else ""
    return (head + "".join(sections)).replace("\n", "\r\n")


def candidate(number: int) -> str:
    """One more host candidate of a section."""
    return f"a=candidate:{number} 1 udp 2122260223 10.0.{number // 250}.{number % 250 + 1} 50000 typ host\n"
