"""The words of each language. To add one, write its file and its line here; a set that is left out is empty."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from voiceagent.core.lexicons.de import DE
from voiceagent.core.lexicons.en import EN
from voiceagent.core.lexicons.es import ES
from voiceagent.core.lexicons.fr import FR
from voiceagent.core.lexicons.shape import Lexicon

COMMON = Lexicon()  # of a language that is not here: sounds only
LEXICONS: Mapping[str, Lexicon] = MappingProxyType({"en": EN, "de": DE, "fr": FR, "es": ES})
