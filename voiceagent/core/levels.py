"""How loud things are: the room's noise floor and this user's voice, in dBFS. Fed by runtime/ears.py, window by window.

A voice far below the user's own is somebody else in the room, or a loudspeaker. Levels follow slowly, in decibels, so a
cough moves them little. The floor falls fast and rises slowly (minimum tracking, as in speech enhancement); the voice
the other way round: its loud syllables are what another voice's loudest window can be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENCE_DB = -96.0  # int16 has no quieter sound than this
_FALL, _RISE = 0.3, 0.01  # a window of 32 ms moves the floor by this share of the difference
_LOUDER, _SOFTER = 0.3, 0.02
_SYLLABLE_DB = 10.0  # what is so much softer than a loud syllable is between syllables, and says nothing
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
        if self._voiced == 1:
            self._voice_db = level_db
        if level_db > self._voice_db - _SYLLABLE_DB:
            self._voice_db += (level_db - self._voice_db) * (_LOUDER if level_db > self._voice_db else _SOFTER)

    @property
    def voice_db(self) -> float | None:
        """The user's usual level."""
        return self._voice_db if self._voiced >= _ENOUGH else None
