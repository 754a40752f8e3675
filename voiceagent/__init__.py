"""A real-time full-duplex voice agent server."""

__version__ = "0.1.0"
