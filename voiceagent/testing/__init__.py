"""Shipped for users and used by our own tests: virtual time, memory transport, scripts, conformance checks."""
