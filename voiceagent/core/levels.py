"""How loud things are: the room's noise floor and this user's voice, in dBFS. Fed by runtime/ears.py, window by window.

A voice far below the user's own is somebody else in the room, or a loudspeaker. Both levels follow slowly, in decibels,
so a cough moves them little; the floor falls fast and rises slowly (minimum tracking), as in speech enhancement.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENCE_DB = -96.0  # int16 has no quieter sound than this
_FALL, _RISE = 0.3, 0.01  # a window of 32 ms moves the floor by this share of the difference
_VOICE = 0.05
_ENOUGH = 30  # voiced windows (about a second) before the user's level means anything


@dataclass(slots=True)
class Levels:
    """Both levels of one session. `voice_db` is None until about a second of the user's own turns was heard."""

    floor_db: float = -60.0
    _voice_db: float = 0.0
    _voiced: int = 0

    def quiet(self, level_db: float) -> None:
        """A window without voice, while nobody speaks."""
        level_db = max(level_db, SILENCE_DB)
        self.floor_db += (level_db - self.floor_db) * (_FALL if level_db < self.floor_db else _RISE)

    def voiced(self, level_db: float) -> None:
        """A window of voice that belongs to a turn of the user."""
        self._voiced += 1
        share = max(_VOICE, 1.0 / self._voiced)
        self._voice_db += (level_db - self._voice_db) * share

    @property
    def voice_db(self) -> float | None:
        """The user's usual level."""
        return self._voice_db if self._voiced >= _ENOUGH else None
