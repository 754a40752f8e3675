"""Thin I/O around a codec: one file per kind of connection."""
