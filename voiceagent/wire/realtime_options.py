"""What session.update and response.create have in common: tools, modalities, token limits, and how they are echoed.

Also turn_detection, which is core.policy.TurnPolicy in other words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

from voiceagent.core.peer import Output, Tool, ToolChoice
from voiceagent.core.policy import TurnPolicy
from voiceagent.wire.fields import Fields, unsupported, wrong_type, wrong_value

MAX_TOOLS = 256
MAX_OUTPUT_TOKENS = 4096
Eagerness = Literal["low", "medium", "high", "auto"]
# eagerness -> (hard maximum of a wait in seconds, factor on the other two); "auto" is the server's own policy
_EAGERNESS: Mapping[str, tuple[float, float]] = {"low": (8.0, 2.0), "medium": (4.0, 1.0), "high": (2.0, 0.5)}


def parse_output(fields: Fields, key: str = "output_modalities") -> Output | None:
    """["audio"] or ["text"]; ["audio", "text"], the beta's way to say audio, is understood too."""
    values = fields.array(key)
    if values is None:
        return None
    if not values or any(value not in ("audio", "text") for value in values):
        raise wrong_value(fields.at(key), '["audio"] or ["text"]')
    return "audio" if "audio" in values else "text"


def parse_max_tokens(fields: Fields, key: str = "max_output_tokens") -> int | Literal["inf"] | None:
    """1..4096 or "inf"."""
    if fields.get(key) == "inf":
        return "inf"
    value = fields.number(key, 1, MAX_OUTPUT_TOKENS)
    if value is None or isinstance(value, int):
        return value
    raise wrong_type(fields.at(key), 'an integer or "inf"')


def parse_tools(fields: Fields, key: str = "tools") -> tuple[Tool, ...] | None:
    """Functions that the client runs. None when absent. Raises RequestError for MCP servers."""
    values = fields.array(key)
    if values is None:
        return None
    if len(values) > MAX_TOOLS:
        raise wrong_value(fields.at(key), f"at most {MAX_TOOLS} tools")
    tools = []
    for tool in fields.objects(key):
        if (tool.choice("type", ("function", "mcp")) or "function") == "mcp":
            raise unsupported(tool.at("type"), "The tool type 'mcp'")
        name = tool.required("name")
        if not 0 < len(name) <= 128:
            raise wrong_value(tool.at("name"), "a string of 1 to 128 characters")
        parameters = tool.inner("parameters")
        tools.append(Tool(name, tool.text("description") or "", parameters.raw() if parameters else {}))
    return tuple(tools)


def parse_tool_choice(fields: Fields, key: str = "tool_choice") -> ToolChoice | None:
    """A ToolChoice: "tool:NAME" for {"type": "function", "name": NAME}."""
    value = fields.get(key)
    if value is None or value in ("auto", "none", "required"):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):
        raise wrong_value(fields.at(key), "'auto', 'none', 'required' or a function")
    choice = Fields(value, fields.at(key))
    if choice.choice("type", ("function", "mcp")) == "mcp":
        raise unsupported(choice.at("type"), "The tool type 'mcp'")
    return f"tool:{choice.required('name')}"


def parse_voice(fields: Fields, key: str = "voice") -> str | None:
    """A name, or {"id": name}."""
    value = fields.get(key)
    if isinstance(value, dict):
        return Fields(value, fields.at(key)).required("id")
    return fields.text(key)


def voice_of_engine(name: str | None, known: Collection[str], default: str) -> str:
    """What SessionOptions.voice becomes: stock clients ask for voices no local engine has, and get the default."""
    return name if name is not None and name in known else default


def echo_tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """As the session object shows them."""
    shown = []
    for tool in tools:
        one: dict[str, Any] = {"type": "function", "name": tool.name, "parameters": dict(tool.parameters)}
        if tool.description:
            one["description"] = tool.description
        shown.append(one)
    return shown


def echo_tool_choice(choice: ToolChoice) -> Any:
    """The inverse of `parse_tool_choice`."""
    return {"type": "function", "name": choice[5:]} if choice.startswith("tool:") else choice


# --- turn detection ---------------------------------------------------------------------------------------------


def parse_turns(
    fields: Fields, now: TurnPolicy, base: TurnPolicy, eagerness: Eagerness
) -> tuple[TurnPolicy, Eagerness]:
    """turn_detection -> policy. What is absent stays as it is, or is the server's default if the type changes."""
    kind = fields.choice("type", ("server_vad", "semantic_vad", "none")) or _kind(now)
    if kind == "none":  # the beta's null
        return replace(now, mode="manual"), eagerness
    if base.mode == "native":  # a codec-token model takes its own turns, whatever the client would like
        policy, eagerness = now, "auto"
    elif kind == "server_vad":
        policy, eagerness = (now if now.mode == "silence" else replace(base, mode="silence")), "auto"
        silence = fields.number("silence_duration_ms", 0, 60_000)
        policy = policy if silence is None else replace(policy, silence_s=silence / 1000)
        if fields.has("idle_timeout_ms"):
            idle = fields.number("idle_timeout_ms", 0, 3_600_000)
            policy = replace(policy, idle_timeout_s=idle / 1000 if idle else None)
    else:
        if now.mode != "semantic":
            now, eagerness = replace(base, mode="semantic"), "auto"
        asked: Any = fields.choice("eagerness", ("low", "medium", "high", "auto"))
        policy, eagerness = (_eager(now, base, asked), asked) if asked else (now, eagerness)
    create, interrupt = fields.flag("create_response"), fields.flag("interrupt_response")
    return (
        replace(
            policy,
            create_reply=policy.create_reply if create is None else create,
            interrupt_reply=policy.interrupt_reply if interrupt is None else interrupt,
        ),
        eagerness,
    )


def echo_turns(policy: TurnPolicy, eagerness: Eagerness, threshold: float, padding_s: float) -> dict[str, Any] | None:
    """The inverse of `parse_turns`, everything filled in: two SDKs act on what is missing here."""
    if policy.mode == "manual":
        return None
    flags = {"create_response": policy.create_reply, "interrupt_response": policy.interrupt_reply}
    if policy.mode != "silence":
        return {"type": "semantic_vad", "eagerness": eagerness, **flags}
    idle = policy.idle_timeout_s
    return {
        "type": "server_vad",
        "threshold": threshold,
        "prefix_padding_ms": round(padding_s * 1000),
        "silence_duration_ms": round(policy.silence_s * 1000),
        "idle_timeout_ms": None if idle is None else round(idle * 1000),
        **flags,
    }


def _kind(policy: TurnPolicy) -> str:
    return "semantic_vad" if policy.mode in ("semantic", "native") else "server_vad"


def _eager(now: TurnPolicy, base: TurnPolicy, asked: Eagerness) -> TurnPolicy:
    limit, factor = _EAGERNESS.get(asked, (base.max_delay_s, 1.0))
    return replace(
        now,
        complete_delay_s=min(limit, base.complete_delay_s * factor),
        cut_off_cost_s=base.cut_off_cost_s * factor**2,
        max_delay_s=limit,
    )
