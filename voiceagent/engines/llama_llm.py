"""Embedded language model: llama.cpp in this process (xllamacpp), by default SmolLM2-135M-Instruct.

One llama.cpp server loop computes for all sessions in parallel sequences ("slots"); a session keeps its slot, so only
what is new in its conversation is evaluated. Each stream has a thread that waits in llama.cpp and hands deltas to the
event loop; cancelling takes effect at the next token, or while a prompt is evaluated at the next `batch` tokens. Where
llama.cpp gives no sign of life for too long, its callers get an error and a fresh loop takes over (engines/stalls.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from voiceagent.core.items import Item
from voiceagent.core.peer import Tool
from voiceagent.engines import chat_messages, weights
from voiceagent.engines.chat_chunks import ChatChunks, complaint
from voiceagent.engines.handover import Handover
from voiceagent.engines.llama_server import start
from voiceagent.engines.slots import Slots
from voiceagent.engines.stalls import Call, Stalls, detached
from voiceagent.errors import Category, ConfigError, EngineError
from voiceagent.ports import LlmDelta, LlmEnd, LlmRequest, TextDelta, ToolCallDelta

MIB = 1 << 20
ATTEMPTS = 8  # how often a conversation is cut further until it fits
# DRY looks for each of its breakers in the whole vocabulary, for every request: 20 ms before the first token.
NO_BREAKERS = [""]
CLOSE_S = 5.0  # generations under way are waited for at the end


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """What agent.toml may set.

    Threads: two where there are two cores, which halves the time of a token. ggml's threads meet at a barrier for every
    operation; left to spin there as long as they like, they crawl as soon as anything else wants a core. With `spins`
    bounded they lose less then, and nothing on idle cores. For many sessions on few cores, one thread is the better.
    Sampling: greedy, with a penalty (DRY) on repeating whole phrases; a penalty on single words makes a small model
    avoid the very words of the question.
    """

    model: str = ""  # path of a GGUF file; "" is the embedded SmolLM2-135M-Instruct
    slots: int = 4  # sessions that generate in parallel
    slot_tokens: int = 2048  # context of each, in steps of 256; SmolLM2 takes 23 KiB of memory a token
    cache_mib: int = 256  # prompts of sessions that lost their slot, kept in memory
    threads: int = 0  # 0: two, or one on a single core
    spins: int = 1000  # turns a thread waits busily for the others before it sleeps (OpenMP)
    batch: int = 32  # prompt tokens evaluated between two looks at cancellation and at the other sessions
    max_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    phrase_penalty: float = 0.8  # DRY multiplier; 0 is off
    seed: int = 1
    gpu_layers: int = 0  # for a build of xllamacpp with a GPU


class LlamaLlm:
    """The engine "llama", for one event loop. See ports.Llm for the contract.

    Tools: "required" and "tool:NAME" work with any model (the grammar allows nothing but arguments that fit the
    schema). "auto" is left to the model's chat template; where that knows no tools, as SmolLM2's, none is called.
    """

    Options = LlamaOptions

    def __init__(self, options: LlamaOptions = LlamaOptions()) -> None:  # noqa: B008 (frozen)
        self._options = options
        self._server: Any = None
        self._closed = False
        self._slots = Slots(options.slots)
        self._stalls = Stalls("llama", self._restart)
        self._reviving: asyncio.Task[None] | None = None
        self._running: dict[Handover[LlmDelta | EngineError], asyncio.Future[None]] = {}
        self._prefills: dict[str, Handover[LlmDelta | EngineError]] = {}

    def load(self) -> None:
        """Load and warm the model; blocks. Raises ConfigError (package or file) and EngineError (llama.cpp)."""
        if self._server is not None or self._closed:
            return
        self._server = self._started()

    @property
    def worker(self) -> Stalls:
        """Its queue and its calls, to be watched."""
        return self._stalls

    def _started(self) -> Any:
        path = Path(self._options.model).expanduser() if self._options.model else weights.verify(weights.SMOLLM2)
        if not path.is_file():
            raise ConfigError(f"llm llama: the model file {path} does not exist")
        server = start(
            path,
            slots=self._options.slots,
            slot_tokens=self._options.slot_tokens,
            batch=self._options.batch,
            threads=self._options.threads or min(2, os.cpu_count() or 1),
            spins=self._options.spins,
            gpu_layers=self._options.gpu_layers,
            cache_mib=self._options.cache_mib,
        )
        warm = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2, "id_slot": 0}
        server.handle_chat_completions(warm)
        return server

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        """See ports.Llm. Raises EngineError: "unavailable", "bad_input" (tools, instructions), "internal"."""
        self._check()
        if prefill := self._prefills.get(request.session):
            prefill.stop(LlmEnd())
        slot = await self._slot(request.session)
        handover = self._begin(slot, request)
        try:
            while True:
                delta = await handover.get()
                if isinstance(delta, LlmEnd | EngineError) and handover in self._running:
                    await asyncio.wait([self._running[handover]])  # no time: the slot is free before anybody asks
                if isinstance(delta, EngineError):
                    raise delta
                yield delta
                if isinstance(delta, LlmEnd):
                    return
        finally:
            handover.stop()
            if handover in self._running:
                self._slots.leave(slot)

    async def prefill(self, request: LlmRequest) -> None:
        """Evaluate this conversation in the session's slot, if that is free; a stream of the session stops it."""
        self._check()
        slot = self._slots.try_acquire(request.session)
        if slot is None:
            return
        handover = self._begin(slot, request, prefill=True)
        self._slots.leave(slot)  # a stream of this session waits for it rather than taking another slot
        if request.session:
            self._prefills[request.session] = handover
        try:
            while not isinstance(await handover.get(), LlmEnd | EngineError):
                pass
        finally:
            handover.stop()
            if self._prefills.get(request.session) is handover:
                del self._prefills[request.session]

    async def aclose(self) -> None:
        """Stop everything, end the threads, free the memory. Idempotent."""
        self._closed = True
        self._slots.close()
        for handover in self._running:
            handover.stop(_unavailable("closed"))
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.wait({self._reviving})
        if self._running:
            _, stuck = await asyncio.wait(list(self._running.values()), timeout=CLOSE_S)
            for future in stuck:  # its thread is left behind
                future.cancel()
        if self._server is not None:
            await detached("llama-free", self._free)

    def _free(self) -> None:
        self._server = None  # the last reference: llama.cpp ends its threads here

    def _check(self) -> None:
        if self._closed:
            raise _unavailable("closed")
        if self._server is None:
            if not self._stalls.stuck:
                raise _unavailable("not loaded")
            why = "given up" if self._stalls.broken else "being loaded again"
            raise _unavailable(why, retryable=not self._stalls.broken)

    async def _slot(self, session: str) -> int:
        ticket, slots = self._stalls.queued(), self._slots
        try:
            slot = await slots.acquire(session)
        finally:
            self._stalls.turned(ticket)
        if slots is not self._slots:  # given up after this one was told to go on
            raise _no_answer()
        return slot

    def _begin(self, slot: int, request: LlmRequest, *, prefill: bool = False) -> Handover[LlmDelta | EngineError]:
        """Start the thread of one generation. The slot is free again when it has ended."""
        handover: Handover[LlmDelta | EngineError] = Handover()
        if self._closed:  # while this request waited for its slot
            self._slots.release(slot)
            raise _unavailable("closed")
        call = self._stalls.begin()
        generation = _Generation(self._server, self._options, request, slot, handover, call, prefill=prefill)
        future = detached("llama", generation.run)
        self._running[handover] = future
        future.add_done_callback(partial(self._ended, self._slots, slot, handover))
        return handover

    def _ended(
        self, slots: Slots, slot: int, handover: Handover[LlmDelta | EngineError], _: asyncio.Future[None]
    ) -> None:
        self._running.pop(handover, None)
        slots.release(slot)

    def _restart(self, wait_s: float | None) -> None:
        """Stuck: everybody is told, and a fresh server takes over. The old one is kept alive by the calls in it."""
        self._server = None
        running, self._running = self._running, {}
        for handover, future in running.items():
            handover.stop(_no_answer())
            future.cancel()
        self._slots.close(_no_answer)
        self._slots = Slots(self._options.slots)
        self._reviving = None
        if wait_s is not None and not self._closed:
            self._reviving = asyncio.create_task(self._revive(wait_s), name="llama-revive")

    async def _revive(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        try:
            self._server = await detached("llama-load", self._started)
        except Exception as error:  # supervised here: loading a model may raise anything
            self._stalls.failed(error)


class _Generation:
    """One generation, in its thread: asks llama.cpp, translates what it calls back, cuts what does not fit."""

    def __init__(
        self,
        server: Any,
        options: LlamaOptions,
        request: LlmRequest,
        slot: int,
        handover: Handover[LlmDelta | EngineError],
        watched: Call,
        *,
        prefill: bool,
    ) -> None:
        self._watched = watched
        self._server = server
        self._options = options
        self._request = request
        limit = options.max_tokens if request.max_tokens is None else request.max_tokens
        self._max_tokens = max(1, limit)  # a prefill makes room for them, too: the answer will be cut at the same place
        self._prefill = prefill
        self._handover = handover
        self._slot = slot
        self._chunks = ChatChunks()
        self._call = _ForcedCall.of(request)
        self._overflow: tuple[int, int] | None = None
        self._failure: EngineError | None = None

    def run(self) -> None:
        """Hand over every delta, then LlmEnd or an EngineError. Never raises."""
        try:
            end: LlmDelta | EngineError = self._generate()
        except EngineError as error:
            end = error
        except Exception as error:  # supervised here: whatever llama.cpp raises reaches the stream as an EngineError
            category: Category = "bad_input" if isinstance(error, ValueError) else "internal"
            end = EngineError(f"llama.cpp: {complaint(error)}", stage="llm", category=category)
        if not self._handover.stopped:
            self._handover.put(end)

    def _generate(self) -> LlmDelta:
        reserve = min(self._max_tokens, self._options.slot_tokens // 4)
        fixed = chat_messages.tokens(self._request.instructions) + (self._call.tokens if self._call else 0)
        budget = self._options.slot_tokens - reserve - fixed
        for _ in range(ATTEMPTS):
            overflow = self._ask(chat_messages.newest(self._request.items, max(16, budget)))
            if overflow is None:
                return self._finish()
            wanted, available = overflow
            budget = int(min(budget, 4 * available) * 0.9 * (available - reserve) / wanted)
        message = f"instructions and tools do not fit into {self._options.slot_tokens} tokens (slot_tokens)"
        raise EngineError(message, stage="llm", category="bad_input")

    def _ask(self, items: tuple[Item, ...]) -> tuple[int, int] | None:
        """Generate. Returns (tokens wanted, tokens there are) when that many items do not fit."""
        self._overflow = None
        self._watched.alive()
        try:
            self._server.handle_chat_completions(self._body(items), self._called_back)
        finally:
            self._watched.over()
        if self._failure is not None:
            raise self._failure
        return self._overflow

    def _body(self, items: tuple[Item, ...]) -> dict[str, Any]:
        options, request = self._options, self._request
        chat = chat_messages.messages(LlmRequest(request.instructions, items))
        body: dict[str, Any] = {
            "messages": chat,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,  # a look at cancellation after each batch of the prompt
            "cache_prompt": True,
            "id_slot": self._slot,
            "max_tokens": 1 if self._prefill else self._max_tokens,
        }
        if self._prefill:  # the words may go on: without what the template has between them and an answer
            body |= {"add_generation_prompt": False, "temperature": 0.0}
        else:
            body |= {
                "temperature": options.temperature,
                "top_p": options.top_p,
                "min_p": options.min_p,
                "repeat_penalty": options.repeat_penalty,
                "dry_multiplier": options.phrase_penalty,
                "dry_sequence_breakers": NO_BREAKERS,
                "seed": options.seed,
            }
        if self._call is not None:
            chat.append({"role": "system", "content": self._call.order})
            body["json_schema"] = self._call.schema
        elif request.tools and request.tool_choice == "auto":
            body["tools"] = chat_messages.tools(request.tools)
        return body

    def _called_back(self, chunk: Any) -> bool:
        """Called by llama.cpp with each chunk; True stops it."""
        self._watched.over()  # handing over may have to wait for whoever reads
        try:
            return self._take(chunk)
        finally:
            self._watched.alive()

    def _take(self, chunk: Any) -> bool:
        if self._handover.stopped:
            return True
        error = chunk.get("error") if isinstance(chunk, dict) else None
        if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
            self._overflow = int(error["n_prompt_tokens"]), int(error["n_ctx"])
            return True
        try:
            deltas = self._chunks.feed(chunk)
        except EngineError as failure:
            self._failure = failure
            return True
        return not all(self._put(delta) for delta in deltas)

    def _put(self, delta: LlmDelta) -> bool:
        if self._call is None or not isinstance(delta, TextDelta):
            return self._handover.put(delta)
        return all(self._handover.put(each) for each in self._call.feed(delta.text))

    def _finish(self) -> LlmEnd:
        end = self._chunks.end()
        if self._call is None or end.reason != "stop":
            return end
        for delta in self._call.end():
            self._handover.put(delta)
        return LlmEnd("tool_calls", end.usage)


class _ForcedCall:
    """A call the model must make: the grammar lets it write nothing but JSON that fits the schema.

    For one tool that JSON is the arguments, passed on as they come; for several it also names the tool.
    """

    def __init__(self, tools: tuple[Tool, ...]) -> None:
        self._tools = tools
        self._call_id = f"call_{uuid.uuid4().hex[:24]}"
        self._text = ""
        schemas = [_schema(tool) for tool in tools]
        self.schema: Mapping[str, Any] = schemas[0]
        if len(tools) > 1:
            self.schema = {"anyOf": [_named(tool, schema) for tool, schema in zip(tools, schemas, strict=True)]}
        described = "\n".join(f"{tool.name}: {tool.description} {json.dumps(_schema(tool))}" for tool in tools)
        form = "the name and the arguments" if len(tools) > 1 else "the arguments"
        self.order = f"Call a function now: answer with {form} as JSON only.\n{described}"

    @staticmethod
    def of(request: LlmRequest) -> _ForcedCall | None:
        """What the request's tool choice forces. Raises EngineError for a tool that is not offered."""
        name = chat_messages.forced_tool(request.tool_choice)
        if name is None and (request.tool_choice != "required" or not request.tools):
            return None
        tools = tuple(tool for tool in request.tools if name in (None, tool.name))
        if not tools:
            raise EngineError(f"there is no tool {name!r} to call", stage="llm", category="bad_input")
        return _ForcedCall(tools)

    @property
    def tokens(self) -> int:
        """About how long `order` is."""
        return chat_messages.tokens(self.order)

    def feed(self, text: str) -> list[ToolCallDelta]:
        """The deltas of more JSON."""
        begun, self._text = bool(self._text), self._text + text
        if len(self._tools) > 1:
            return []
        if begun:
            return [ToolCallDelta(0, arguments=text)]
        return [ToolCallDelta(0, self._call_id, self._tools[0].name, text)]

    def end(self) -> list[ToolCallDelta]:
        """What is left to say when the JSON is complete. Raises EngineError when it is not JSON."""
        try:
            call = json.loads(self._text)
        except ValueError as error:
            raise EngineError("the model's call is not JSON", stage="llm", category="bad_output") from error
        if len(self._tools) == 1:
            return []
        return [ToolCallDelta(0, self._call_id, call["name"], json.dumps(call["arguments"]))]


def _schema(tool: Tool) -> dict[str, Any]:
    """The tool's parameters; without properties nothing may be invented."""
    schema = {"type": "object", **tool.parameters}
    return schema if schema.get("properties") else {**schema, "properties": {}, "additionalProperties": False}


def _named(tool: Tool, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": schema},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _unavailable(why: str, *, retryable: bool = False) -> EngineError:
    return EngineError(f"the llama engine is {why}", stage="llm", category="unavailable", retryable=retryable)


def _no_answer() -> EngineError:
    return EngineError("llama.cpp: no answer", stage="llm", category="timeout", retryable=True)
