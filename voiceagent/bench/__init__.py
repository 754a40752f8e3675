"""The bench: judges any OpenAI Realtime endpoint at the audio. A client like any other; knows nothing of the server."""
