"""Other voice agent frameworks, each behind the same small WebSocket, so that one caller can drive them all.

An adapter (pipecat_server.py, livekit_agent.py) runs in an environment of its own (environments.py) and imports nothing
of this project. It takes its settings as JSON in the first argument (settings.py), prints "ready" when its models are
loaded, and serves one conversation for each connection:

    caller -> {"type": "start", "instructions": "..."}, then binary: 16 kHz int16 mono, 20 ms a message, in real time
    peer   -> {"type": "ready"} when it listens; then binary: 24 kHz int16 mono;
              {"type": "reply", "id": "..."}: the sound that follows belongs to a new answer;
              {"type": "done", "id": "..."}: that answer has been said to its end;
              {"type": "clear"}: the framework was interrupted; drop what has not been played yet.
"""
