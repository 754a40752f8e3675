"""What happened in one scenario, as the judge and the plots need it: no opinion. Written by drive.py.

All times are seconds since the first microphone frame. The microphone is what was sent, the arrivals what came.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from voiceagent.bench.player import RATE, Pcm, Player, voiced_spans

Who = Literal["user", "starter", "other", "noise"]


@dataclass(frozen=True, slots=True)
class Uttered:
    """One sound of the user's side: the times of its first and last voiced 10 ms and of the pauses inside."""

    who: Who
    text: str
    begin: float
    end: float
    pauses: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """Sound of the agent's, 24 kHz int16 mono, when it came."""

    at: float
    response: str
    item: str
    pcm: bytes


@dataclass
class Recording:
    """`drops`: the client flushes its player at speech_started, as stock clients do."""

    uttered: list[Uttered] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # without audio
    mic: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))
    end: float = 0.0
    drops: bool = True
    late_frames: int = 0
    error: str = ""  # why it could not be played to its end

    def player(self) -> Player:
        """The loudspeaker of a client that got all this."""
        player = Player()
        flushes = [at for at, event in self.events if event["type"] == "input_audio_buffer.speech_started"]
        flushes = flushes if self.drops else []
        for arrival in self.arrivals:
            while flushes and flushes[0] <= arrival.at:
                player.flush(flushes.pop(0))
            player.arrive(arrival.at, arrival.response, arrival.item, arrival.pcm)
        for at in flushes:
            player.flush(at)
        return player

    def times(self, kind: str, after: float = float("-inf")) -> list[float]:
        """When events of this type came."""
        return [at for at, event in self.events if event["type"] == kind and at >= after]

    def save(self, path: Path) -> None:
        """A stereo WAV (user left, agent's loudspeaker right) and a JSON of the events beside it."""
        import soundfile

        length = max(len(self.mic), round(self.end * RATE))
        sound = np.zeros((length, 2), np.int16)
        sound[: len(self.mic), 0] = self.mic
        sound[:, 1] = self.player().window(0.0, length)
        soundfile.write(path.with_suffix(".wav"), sound, RATE, subtype="PCM_16")
        told = {
            "uttered": [asdict(uttered) for uttered in self.uttered],
            "arrivals": [[round(a.at, 4), a.response, len(a.pcm) // 2] for a in self.arrivals],
            "events": [[round(at, 4), event] for at, event in self.events],
            "late_frames": self.late_frames,
            "error": self.error,
        }
        path.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Voice:
    """A stretch of the agent's voice as it came out of the loudspeaker."""

    begin: float
    end: float
    response: str


def agent_voice(player: Player, bridge_s: float = 0.0) -> list[Voice]:
    """Where the agent is heard, response by response; silences shorter than `bridge_s` are bridged."""
    found: list[Voice] = []
    runs: list[tuple[str, float, list[Pcm]]] = []
    for piece in player.pieces:
        if runs and runs[-1][0] == piece.response:
            response, start, parts = runs[-1]
            end = start + sum(len(part) for part in parts) / RATE
            if abs(piece.start - end) < 1e-3:
                parts.append(piece.pcm)
                continue
        runs.append((piece.response, piece.start, [piece.pcm]))
    for response, start, parts in runs:
        for begin, end in voiced_spans(np.concatenate(parts)):
            span = Voice(start + begin, start + end, response)
            if found and found[-1].response == response and span.begin - found[-1].end < max(bridge_s, 1e-6):
                found[-1] = Voice(found[-1].begin, span.end, response)
            else:
                found.append(span)
    return found


def silent_gaps(player: Player, response: str, begin: float, end: float) -> list[tuple[float, float]]:
    """Inside begin..end, when a client that waits for more of this response had nothing to play (over 30 ms)."""
    gaps: list[tuple[float, float]] = []
    at = begin
    for piece in player.pieces:
        if piece.response == response and piece.end > begin and piece.start < end:
            if piece.start - at > 0.03:
                gaps.append((at, piece.start))
            at = max(at, piece.end)
    if end - at > 0.03:
        gaps.append((at, end))
    return gaps
