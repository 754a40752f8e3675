"""The session object of the OpenAI Realtime API: SessionOptions in its words, with every default filled in.

Decides what a partial session.update changes, and keeps what only the wire knows (audio formats, the voice's name as
the client wrote it, tracing...). Called by RealtimeCodec.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from voiceagent.core.peer import SessionOptions
from voiceagent.errors import RequestError
from voiceagent.wire.fields import Fields, wrong_value
from voiceagent.wire.realtime_audio import AudioFormat, parse_format
from voiceagent.wire.realtime_extension import events_asked
from voiceagent.wire.realtime_options import (
    Eagerness,
    echo_tool_choice,
    echo_tools,
    echo_turns,
    parse_max_tokens,
    parse_output,
    parse_tool_choice,
    parse_tools,
    parse_turns,
    parse_voice,
    voice_of_engine,
)

Kind = Literal["realtime", "transcription"]
# Kept and echoed, without effect: what a client set must come back, and agents SDKs always send tracing.
_KEPT: Mapping[str, Any] = {"truncation": "auto", "tracing": None, "prompt": None, "include": None}
_KEPT_IF_SENT = ("reasoning", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class Ground:
    """What the server fixes for a session, whatever the client says."""

    defaults: SessionOptions
    model: str
    voices: Collection[str] = ()  # names the engine knows
    recogniser: str = "whisper-1"  # echoed as the transcription model


@dataclass(frozen=True, slots=True)
class SessionView:
    """The options in force and what only the wire knows of them."""

    kind: Kind
    options: SessionOptions
    voice: str
    transcription: Mapping[str, Any] | None
    input_format: AudioFormat = AudioFormat()
    output_format: AudioFormat = AudioFormat()
    noise_reduction: Mapping[str, Any] | None = None
    eagerness: Eagerness = "auto"
    max_tokens: int | Literal["inf"] = "inf"
    kept: Mapping[str, Any] = field(default_factory=lambda: dict(_KEPT))


def opening(ground: Ground, kind: Kind) -> SessionView:
    """The session before the client has said anything."""
    options = ground.defaults
    if kind == "transcription":
        options = replace(options, transcribe=True, policy=replace(options.policy, create_reply=False))
    return SessionView(
        kind=kind,
        options=options,
        voice=options.voice or next(iter(ground.voices), "default"),
        transcription={"model": ground.recogniser} if options.transcribe else None,
        max_tokens="inf" if options.max_tokens is None else min(options.max_tokens, 4096),
    )


def updated(view: SessionView, session: Fields, ground: Ground) -> SessionView:
    """`view` after a session.update. Raises RequestError and changes nothing; unknown members are ignored."""
    asked = session.choice("type", ("realtime", "transcription"))
    if asked is not None and asked != view.kind:
        raise wrong_value(session.at("type"), f"{view.kind!r}, as the session was opened")
    if view.kind == "realtime":
        view = _with_reply(view, session, ground)
    view = replace(view, kept=_with_kept(view.kept, session))
    if (observe := events_asked(session)) is not None:
        view = replace(view, options=replace(view.options, observe=observe))
    audio = session.inner("audio")
    if audio is None:
        return view
    if (heard := audio.inner("input")) is not None:
        view = _with_input(view, heard, ground)
    if (spoken := audio.inner("output")) is not None and view.kind == "realtime":
        view = _with_output(view, spoken, ground)
    return view


def session_object(view: SessionView, ground: Ground, session_id: str, expires_at: int) -> dict[str, Any]:
    """The full effective session."""
    options = view.options
    heard = {
        "format": view.input_format.echo(),
        "transcription": view.transcription,
        "noise_reduction": view.noise_reduction,
        "turn_detection": echo_turns(options.policy, view.eagerness, options.vad_threshold, options.prefix_padding_s),
    }
    if view.kind == "transcription":
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "expires_at": expires_at,
            "include": view.kept["include"],
            "audio": {"input": heard},
        }
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": ground.model,
        "expires_at": expires_at,
        "instructions": options.instructions,
        "output_modalities": [options.output],
        "max_output_tokens": view.max_tokens,
        "tools": echo_tools(options.tools),
        "tool_choice": echo_tool_choice(options.tool_choice),
        **view.kept,
        "audio": {
            "input": heard,
            "output": {"format": view.output_format.echo(), "voice": view.voice, "speed": options.speed},
        },
    }


def _with_reply(view: SessionView, session: Fields, ground: Ground) -> SessionView:
    options = view.options
    instructions, tools = session.text("instructions"), parse_tools(session)
    limit = parse_max_tokens(session)
    if limit is not None:  # "inf" cannot lift the server's own limit
        limited = ground.defaults.max_tokens if limit == "inf" else limit
        options, view = replace(options, max_tokens=limited), replace(view, max_tokens=limit)
    options = replace(
        options,
        instructions=options.instructions if instructions is None else instructions,
        output=parse_output(session) or options.output,
        tools=options.tools if tools is None else tools,
        tool_choice=parse_tool_choice(session) or options.tool_choice,
    )
    return replace(view, options=options)


def _with_kept(kept: Mapping[str, Any], session: Fields) -> Mapping[str, Any]:
    sent = {key: session.get(key) for key in (*_KEPT, *_KEPT_IF_SENT) if session.has(key)}
    if sent.get("truncation", "auto") is None:
        sent["truncation"] = "auto"
    return {**kept, **{key: value for key, value in sent.items() if value is not None or key in _KEPT}}


def _with_input(view: SessionView, heard: Fields, ground: Ground) -> SessionView:
    options = view.options
    if (format := heard.inner("format")) is not None:
        view = replace(view, input_format=parse_format(format))
    if heard.has("noise_reduction"):
        reduction = heard.inner("noise_reduction")
        if reduction is not None:
            reduction.choice("type", ("near_field", "far_field"))
        view = replace(view, noise_reduction=reduction.raw() if reduction else None)
    if heard.has("transcription"):
        view, options = _with_transcription(view, heard.inner("transcription"), ground)
    if heard.has("turn_detection"):
        turns = heard.inner("turn_detection")
        if turns is None:
            policy, eagerness = options.policy, view.eagerness
            if ground.defaults.policy.mode != "native":
                policy = replace(policy, mode="manual")
        else:
            policy, eagerness = parse_turns(turns, options.policy, ground.defaults.policy, view.eagerness)
            threshold, padding = turns.number("threshold", 0, 1), turns.number("prefix_padding_ms", 0, 10_000)
            options = replace(
                options,
                vad_threshold=options.vad_threshold if threshold is None else threshold,
                prefix_padding_s=options.prefix_padding_s if padding is None else padding / 1000,
            )
        if view.kind == "transcription":
            policy = replace(policy, create_reply=False)
        view, options = replace(view, eagerness=eagerness), replace(options, policy=policy)
    return replace(view, options=options)


def _with_transcription(view: SessionView, asked: Fields | None, ground: Ground) -> tuple[SessionView, SessionOptions]:
    if asked is None:
        if view.kind == "transcription":
            raise RequestError("A transcription session transcribes.", param="session.audio.input.transcription")
        return replace(view, transcription=None), replace(view.options, transcribe=False)
    model, language, prompt = asked.text("model"), asked.text("language"), asked.text("prompt")
    # Only what was sent, without nulls: one SDK refuses keys that it does not know, another refuses nulls.
    sent = {key: value for key, value in asked.raw().items() if value is not None}
    was = view.transcription or {"model": ground.recogniser}
    options = replace(
        view.options,
        transcribe=True,
        language=view.options.language if language is None else language or None,
        vocabulary=view.options.vocabulary if prompt is None else prompt,
    )
    return replace(view, transcription={**was, **sent, "model": model or was["model"]}), options


def _with_output(view: SessionView, spoken: Fields, ground: Ground) -> SessionView:
    options = view.options
    if (format := spoken.inner("format")) is not None:
        view = replace(view, output_format=parse_format(format))
    voice, speed = parse_voice(spoken), spoken.number("speed", 0.25, 1.5)
    if voice is not None:
        chosen = voice_of_engine(voice, ground.voices, ground.defaults.voice)
        view, options = replace(view, voice=voice), replace(options, voice=chosen)
    if speed is not None:
        options = replace(options, speed=float(speed))
    return replace(view, options=options)
