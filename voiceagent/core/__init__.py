"""Decisions: pure functions and small automata. Standard library only; time comes in as an argument."""
