"""The beta dialect of the OpenAI Realtime API, as a map to and from GA: names, flat sessions, flat responses.

Used by RealtimeCodec only for sockets that carry the beta marker; GA clients break on beta names.
"""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]

AUDIO_DELTA = "response.audio.delta"
_FORMATS: dict[str, Event] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_NAMES = {format["type"]: name for name, format in _FORMATS.items()}
_TYPES = {
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": AUDIO_DELTA,
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}
_PARTS = {"output_text": "text", "output_audio": "audio"}
_INPUT = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_SAME = ("instructions", "tools", "tool_choice", "tracing", "include", "metadata", "conversation", "input", "id")
_OURS = "voiceagent"  # this server's extension, the same in both dialects


def to_ga(event: Event) -> Event:
    """A client's event in GA words. What is malformed stays as it is: the reader of GA refuses it by name."""
    kind = event.get("type")
    if kind in ("session.update", "transcription_session.update") and isinstance(event.get("session"), dict):
        return {**event, "type": "session.update", "session": _nested(event["session"])}
    if kind == "response.create" and isinstance(event.get("response"), dict):
        return {**event, "response": _nested(event["response"])}
    return event


def from_ga(event: Event) -> Event | None:
    """A server's event in beta words; None for what the beta did not have."""
    kind = event["type"]
    if kind == "conversation.item.done":
        return None
    changed = {**event, "type": _TYPES.get(kind, kind)}
    if "item" in event:
        changed["item"] = _item(event["item"])
    if "response" in event:
        changed["response"] = _flat_response(event["response"])
    if "session" in event:
        if event["session"]["type"] == "transcription":
            changed["type"] = f"transcription_{kind}"
        changed["session"] = flat_session(event["session"])
    return changed


def flat_session(session: Event) -> Event:
    """A GA session object as the beta shows it."""
    heard, spoken = session["audio"]["input"], session["audio"].get("output")
    flat = {
        "id": session["id"],
        "object": session["object"],
        "expires_at": session["expires_at"],
        "input_audio_format": _NAMES[heard["format"]["type"]],
        "input_audio_transcription": heard["transcription"],
        "input_audio_noise_reduction": heard["noise_reduction"],
        "turn_detection": heard["turn_detection"],
        **({_OURS: session[_OURS]} if _OURS in session else {}),
    }
    if spoken is None:
        return flat
    kept = {key: session[key] for key in ("model", "instructions", "tools", "tool_choice", "tracing")}
    return {
        **flat,
        **kept,
        "modalities": _modalities(session["output_modalities"]),
        "voice": spoken["voice"],
        "output_audio_format": _NAMES[spoken["format"]["type"]],
        "speed": spoken["speed"],
        "temperature": 0.8,
        "max_response_output_tokens": session["max_output_tokens"],
    }


def _nested(flat: Event) -> Event:
    nested = {key: flat[key] for key in (*_SAME, _OURS) if key in flat}
    heard: Event = {ga: flat[beta] for beta, ga in _INPUT.items() if beta in flat}
    if "input_audio_format" in flat:
        heard["format"] = _format(flat["input_audio_format"])
    spoken: Event = {key: flat[key] for key in ("voice", "speed") if key in flat}
    if "output_audio_format" in flat:
        spoken["format"] = _format(flat["output_audio_format"])
    if "modalities" in flat:
        nested["output_modalities"] = flat["modalities"]
    for limit in ("max_response_output_tokens", "max_output_tokens"):
        if limit in flat:
            nested["max_output_tokens"] = flat[limit]
    return {**nested, "audio": {"input": heard, "output": spoken}}


def _format(name: Any) -> Any:
    return _FORMATS.get(name, {"type": name}) if isinstance(name, str) else name


def _modalities(output: list[str]) -> list[str]:
    return ["text", "audio"] if output == ["audio"] else ["text"]


def _item(item: Event) -> Event:
    if "content" not in item:
        return item
    content = [{**part, "type": _PARTS.get(part["type"], part["type"])} for part in item["content"]]
    return {**item, "content": content}


def _flat_response(response: Event) -> Event:
    flat = {key: value for key, value in response.items() if key not in ("audio", "output_modalities")}
    spoken = response["audio"]["output"]
    return {
        **flat,
        "output": [_item(item) for item in response["output"]],
        "modalities": _modalities(response["output_modalities"]),
        "voice": spoken["voice"],
        "output_audio_format": _NAMES[spoken["format"]["type"]],
        "temperature": 0.8,
    }
