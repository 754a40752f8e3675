"""Where a sentence or a clause ends in running text, in the scripts an LLM may answer in. Called by core/segmenter.py.

Every question is about one place between two characters, and is answered from the text before it, whether white space
lies there, and the one character after it. In doubt a sentence has not ended: a longer chunk sounds better than a cut.
"""

from __future__ import annotations

import re

CLOSERS = "\"'”’»)]}」』）】〉》"
_SPACED_ENDS = "?!؟۔‼⁇⁈⁉\u037e"  # end a sentence where white space follows
_ENDS = "。！？｡।॥։።፧။៕។༎"  # end a sentence wherever they stand
_PAUSES = ",;:،؛፣၊—"  # end a clause where white space follows
_CLOSE_PAUSES = "、，；："  # end a clause wherever they stand
_DASHES = ("–", "-", "--")  # end a clause with white space on both sides

_NEVER = frozenset(  # a name or an example follows
    "dr mr mrs ms mx prof st mt ft gen sen rep gov capt cmdr sgt lt col maj rev hon messrs mme mlle dra srta fr hr frl"
    " vs eg ie cf viz approx ca bzw evtl ggf inkl exkl zzgl bsp dipl ing phil env resp p.ex z.b d.h u.a s.o e.g i.e n.b"
    " q.v p.s pág págs uds ud vd".split()
)
_BEFORE_DIGIT = frozenset(  # abbreviations before a number, words otherwise
    "no nos nr nrn vol vols pp fig figs sec secs art ch chap eq ver op núm nº n° jan feb mar apr jun jul aug sep sept"
    " oct okt nov dec dez ext tel bd abs kap".split()
)
_PERHAPS = frozenset(  # the sentence goes on unless a capital follows
    "etc inc ltd co corp llc plc jr sr sra bros esq ave blvd rd hwy min max avg dept est usw mon tue tues wed thu thur"
    " thurs fri sat sun str tsp tbsp oz lb lbs ea a.m p.m b.c a.d u.s.a u.k u.s ph.d b.a m.a d.c".split()
)
_ORDINAL_DOT = frozenset("bs cs da de et fi fo hr hu is lv nb nn no pl sk sl sr tr".split())  # "am 3. Mai"
_ACRONYM = re.compile(r"(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,3}\Z")
_LAST_WORD = re.compile(r"[^\s([{\"'“‘«¿¡—–/-]*\Z")


def ends_sentence(text: str, gap: bool, after: str, language: str = "en") -> bool:
    """Whether a sentence ends between `text` and the character `after` (`gap`: white space lies between)."""
    core = text.rstrip(CLOSERS)
    last = core[-1:]
    if not last:
        return False
    if last in _ENDS:
        return after not in CLOSERS and after not in _ENDS
    if not gap:
        return False
    if last in _SPACED_ENDS:
        return not (core != text and after.islower())  # "Really?" he said
    if last == "…" or core.endswith("..."):
        return not after.islower()
    if last == ".":
        return _full_stop(core, after, language)
    return False


def ends_clause(text: str, gap: bool, after: str) -> bool:
    """Whether a speaker could pause between `text` and `after`: at a comma, colon, dash... outside numbers."""
    core = text.rstrip(CLOSERS)
    last = core[-1:]
    if not last or glued(text, after):
        return False
    if last in _CLOSE_PAUSES:
        return after not in CLOSERS
    if last == "—":
        return after not in CLOSERS
    return gap and (last in _PAUSES or core.endswith(tuple(f" {dash}" for dash in _DASHES)))


def glued(text: str, after: str) -> bool:
    """Whether the words on both sides of white space belong together: "Dr. Ho", "No. 5", "10 000"."""
    if text[-1:].isdigit() and after.isdigit():
        return True
    if text.endswith((" -", " –", " ×", " +", " =")) and after.isdigit():
        return True
    return text.endswith(".") and not _full_stop(text, after, "en")


def _full_stop(core: str, after: str, language: str) -> bool:
    """Whether the "." at the end of `core`, with white space after it, ends a sentence."""
    word = _last_word(core[:-1])
    folded = word.casefold()
    if word.isdigit():
        if len(core) == len(word) + 1:  # "1." of a list
            return False
        return not after.islower() and not (len(word) <= 2 and language in _ORDINAL_DOT)
    if len(word) == 1 and word.isalpha():  # an initial, but "So do I."
        return word == "I" and not after.islower()
    if folded in _NEVER:
        return False
    if folded in _BEFORE_DIGIT:
        return not after.isdigit()
    if folded in _PERHAPS:
        return after.isupper() and folded not in ("u.s", "u.k", "d.c", "u.s.a")
    return not _ACRONYM.match(word)


def _last_word(text: str) -> str:
    found = _LAST_WORD.search(text)
    return found[0] if found else ""
