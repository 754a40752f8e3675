"""Measurements, printed as tables and JSON with machine and date. Never asserted in tests."""
