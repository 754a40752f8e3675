"""How the process takes memory from the system. Called by cli.py, before a model is loaded."""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # of glibc's malloc.h


def limit_heaps(most: int) -> bool:
    """Have glibc keep so many heaps for all threads, not one for each: a model's thread would leave holes in its own.

    False, and nothing is changed, for 0 and where the C library has no such option (musl, macOS, Windows). See
    mallopt(3).
    """
    if most <= 0:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_ARENA_MAX, most))
