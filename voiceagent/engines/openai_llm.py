"""A language model behind any OpenAI-compatible `/chat/completions`: vLLM, Ollama, llama.cpp, a hosted one.

Decided here: how long to wait at each stage, what is tried again (only before the first delta, only what may pass),
and what a failure is called. Parsing is in sse.py and chat_chunks.py; app wires this from agent.toml.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from voiceagent.engines import chat_messages
from voiceagent.engines.chat_chunks import ChatChunks, complaint
from voiceagent.engines.sse import SseParser
from voiceagent.errors import Category, ConfigError, EngineError
from voiceagent.ports import LlmDelta, LlmRequest

if TYPE_CHECKING:
    import httpx

RETRY_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
LONGEST_BACKOFF_S = 2.0
LONGEST_RETRY_AFTER_S = 5.0  # a server that wants a longer pause has refused: nobody waits that long in a call
ERROR_BODY = 4096  # bytes read of a body that explains a refusal
MODELS_BODY = 1 << 20
KEEP_ALIVE = 32  # idle connections kept
GOODBYE_S = 1.0  # after the finish reason: for the count of tokens and [DONE]
DRAIN_S = 0.05  # after [DONE]
MORE = "no more tokens"


@dataclass(frozen=True, slots=True)
class OpenAiOptions:
    """What agent.toml may set. `api_key` is filled in from the environment variable `api_key_env`, never from a file.

    Stages of one request: connecting; from sending to the first delta (of each attempt); between two events after it.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""  # "" asks the server and takes its first
    api_key_env: str = "OPENAI_API_KEY"
    api_key: str = field(default="", repr=False)
    temperature: float | None = None  # None: as the server has it
    max_tokens: int | None = None
    max_tokens_field: str = "max_tokens"  # "max_completion_tokens" for models that insist
    connect_timeout_s: float = 3.0
    first_token_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0
    retries: int = 2
    backoff_s: float = 0.2  # before the first retry; doubles, with jitter
    alternate: bool = False  # for templates that demand that user and assistant take turns
    usage: bool = True  # ask for token counts (stream_options)
    prefill: bool = False  # warm the server's prefix cache with requests for one token; costs money on a hosted one
    proxy: str = field(default="", repr=False)  # may hold a password
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, object] = field(default_factory=dict)  # more fields of the request, or others instead


class _Transient(EngineError):
    """A failure that may pass by itself; `after_s` is when the server wants to be asked again."""

    def __init__(self, message: str, *, category: Category = "unavailable", after_s: float | None = None) -> None:
        super().__init__(message, stage="llm", category=category, retryable=True)
        self.after_s = after_s


class OpenAiLlm:
    """The engine "openai". See ports.Llm for the contract. Building it raises ConfigError for a useless url or key."""

    Options = OpenAiOptions

    def __init__(self, options: OpenAiOptions = OpenAiOptions()) -> None:  # noqa: B008 (frozen)
        _check_options(options)
        self._options = options
        self._model = options.model
        self._client: httpx.AsyncClient | None = None
        self._closed = False
        self._jitter = random.Random()

    def load(self) -> None:
        """Build the client; nothing is sent."""
        if self._client is not None or self._closed:
            return
        import httpx

        options = self._options
        headers = {"accept": "text/event-stream", **options.headers}
        if options.api_key:
            headers["authorization"] = f"Bearer {options.api_key}"
        self._client = httpx.AsyncClient(
            base_url=options.url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx.Timeout(None, connect=options.connect_timeout_s, pool=options.connect_timeout_s),
            limits=httpx.Limits(max_keepalive_connections=KEEP_ALIVE),
            proxy=options.proxy or None,
            trust_env=False,  # config.py alone reads the environment
        )

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        """See ports.Llm. Raises EngineError; "rejected" means that the server refused this request for good."""
        limit = request.max_tokens if request.max_tokens is not None else self._options.max_tokens
        started = False
        attempt = 0
        while True:
            try:
                async with aclosing(self._attempt(self._check(), request, limit)) as deltas:
                    async for delta in deltas:
                        started = True
                        yield delta
                return
            except _Transient as error:
                pause = backoff_s(attempt, self._options.backoff_s, error.after_s, self._jitter.random())
                if started or attempt >= self._options.retries or pause is None:
                    raise
            attempt += 1
            await asyncio.sleep(pause)

    async def prefill(self, request: LlmRequest) -> None:
        """Ask for one token and throw it away, when `prefill` is set; best effort."""
        client = self._check()
        if not self._options.prefill:
            return
        try:
            async with aclosing(self._attempt(client, request, 1)) as deltas:
                async for _ in deltas:
                    pass
        except EngineError:
            pass  # the reply itself will say what is wrong

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _check(self) -> httpx.AsyncClient:
        if self._client is None:
            why = "closed" if self._closed else "not loaded"
            raise EngineError(f"the openai engine is {why}", stage="llm", category="unavailable")
        return self._client

    async def _attempt(
        self, client: httpx.AsyncClient, request: LlmRequest, max_tokens: int | None
    ) -> AsyncGenerator[LlmDelta, None]:
        """One request. Raises _Transient or EngineError."""
        first_by = asyncio.get_running_loop().time() + self._options.first_token_timeout_s
        body = self._body(request, await self._model_name(client, first_by), max_tokens)
        response = await self._send(client, client.build_request("POST", "chat/completions", json=body), first_by)
        try:
            kind = response.headers.get("content-type", "")
            if "text/event-stream" not in kind:
                said = complaint(_decoded(await self._read(response, first_by, ERROR_BODY)))
                raise _bad(f"{self._where} answered with {kind or 'no type'} instead of events: {self._safe(said)}")
            async with aclosing(self._deltas(response, first_by)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            await response.aclose()

    async def _deltas(self, response: httpx.Response, first_by: float) -> AsyncGenerator[LlmDelta, None]:
        """Read the events of one answer."""
        parser, chunks = SseParser(), ChatChunks()
        loop = asyncio.get_running_loop()
        blocks = response.aiter_bytes()
        deadline, started, more = first_by, False, True
        while more:
            try:
                block = await self._within(anext(blocks, None), deadline, MORE if started else "no first token")
            except EngineError:
                if chunks.finished:  # all that is missing is the count of tokens and the goodbye
                    break
                raise
            more = block is not None
            for event in parser.feed(block) if block is not None else parser.close():
                if event.strip() == "[DONE]":
                    await self._drain(blocks)
                    yield chunks.end()
                    return
                deltas = self._translated(chunks, event)
                started = started or bool(deltas) or chunks.finished
                if started:
                    patience = GOODBYE_S if chunks.finished else self._options.stall_timeout_s
                    deadline = loop.time() + patience
                for delta in deltas:
                    yield delta
        if not chunks.finished:
            raise _broken(f"{self._where} ended the stream in the middle", started)
        yield chunks.end()

    async def _drain(self, blocks: AsyncIterator[bytes]) -> None:
        """Read what ends the answer: a connection is kept only if nothing is left unread on it."""
        try:
            await self._within(anext(blocks, None), asyncio.get_running_loop().time() + DRAIN_S, MORE)
        except EngineError:
            pass  # the connection is closed instead

    def _translated(self, chunks: ChatChunks, event: str) -> list[LlmDelta]:
        try:
            chunk = json.loads(event)
        except (ValueError, RecursionError) as error:
            raise _bad(f"{self._where} sent an event that is not JSON") from error
        try:
            return chunks.feed(chunk)
        except EngineError as error:
            raise EngineError(self._safe(str(error)), stage="llm", category=error.category) from None

    def _body(self, request: LlmRequest, model: str, max_tokens: int | None) -> dict[str, Any]:
        options = self._options
        body: dict[str, Any] = {
            "model": model,
            "messages": chat_messages.messages(request, alternate=options.alternate),
            "stream": True,
        }
        if options.usage:
            body["stream_options"] = {"include_usage": True}
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if max_tokens is not None:
            body[options.max_tokens_field] = max(1, max_tokens)
        if request.tools:
            body["tools"] = chat_messages.tools(request.tools)
            body["tool_choice"] = chat_messages.tool_choice(request.tool_choice)
        return {**body, **options.body}

    async def _model_name(self, client: httpx.AsyncClient, deadline: float) -> str:
        if not self._model:
            response = await self._send(client, client.build_request("GET", "models"), deadline)
            try:
                found = _decoded(await self._read(response, deadline, MODELS_BODY))
            finally:
                await response.aclose()
            listed = found.get("data") if isinstance(found, dict) else None
            first = listed[0] if isinstance(listed, list) and listed else None
            if not isinstance(first, dict) or not isinstance(first.get("id"), str):
                raise _bad(f"{self._where} lists no models; set model")
            self._model = first["id"]
        return self._model

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request, deadline: float) -> httpx.Response:
        """An answer with status 200, its body unread."""
        response: httpx.Response = await self._within(client.send(request, stream=True), deadline, "no answer")
        if response.status_code == 200:
            return response
        try:
            body = await self._read(response, deadline, ERROR_BODY)
        finally:
            await response.aclose()
        raise self._refusal(response.status_code, response.headers.get("retry-after"), body)

    async def _read(self, response: httpx.Response, deadline: float, limit: int) -> bytes:
        body = b""
        blocks = response.aiter_bytes()
        while len(body) < limit and (block := await self._within(anext(blocks, None), deadline, "half an answer")):
            body += block
        return body[:limit]

    async def _within(self, awaitable: Any, deadline: float, stage: str) -> Any:
        """The one place that waits for the server; foreign exceptions and time-outs become EngineErrors."""
        import httpx

        try:
            async with asyncio.timeout_at(deadline):
                return await awaitable
        except TimeoutError:
            message = f"{self._where} sent {stage} in time"
            raise EngineError(message, stage="llm", category="timeout", retryable=True) from None
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Transient(f"{self._where} cannot be connected in time", category="timeout") from error
        except httpx.ConnectError as error:
            raise _Transient(f"{self._where} cannot be connected: {self._safe(complaint(error))}") from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise _broken(f"{self._where} broke the connection ({type(error).__name__})", stage == MORE) from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError, ValueError) as error:
            # RuntimeError: the client was closed meanwhile; ValueError: a content encoding that cannot be decoded.
            message = f"{self._where}: {type(error).__name__}"
            raise EngineError(message, stage="llm", category="unavailable") from error

    def _refusal(self, status: int, retry_after: str | None, body: bytes) -> EngineError:
        if status in (401, 403):
            message = f"{self._where} refused the API key ({status}); it is read from {self._options.api_key_env}"
            return EngineError(message, stage="llm", category="rejected")
        found = _decoded(body)
        said = complaint(found.get("error", found) if isinstance(found, dict) else found)
        message = f"{self._where} answered {status}: {self._safe(said)}"
        if status in RETRY_STATUS:
            return _Transient(message, after_s=_seconds(retry_after))
        category: Category = "bad_input" if status in (400, 413, 422) else "rejected"
        return EngineError(message, stage="llm", category=category)

    @property
    def _where(self) -> str:
        """The server's address, without whatever else the url holds."""
        scheme, _, rest = self._options.url.partition("://")
        return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"

    def _safe(self, text: str) -> str:
        """A server's words without the key, should it repeat it."""
        key = self._options.api_key
        return text.replace(key, "***") if key else text


def _check_options(options: OpenAiOptions) -> None:
    try:
        parts = urlsplit(options.url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("llm openai: url must be like http://host:port/v1")
    for name, value in {**options.headers, options.api_key_env: options.api_key}.items():
        if not (value.isascii() and value.isprintable() and name.isascii()):
            raise ConfigError(f"llm openai: {name} holds characters that cannot be sent in a header")


def backoff_s(attempt: int, base_s: float, after_s: float | None, jitter: float) -> float | None:
    """Seconds to wait before trying again after attempt number `attempt` (from 0); None: give up.

    Exponential, `jitter` (0..1) takes off up to half so that clients of one failure do not come back together. A
    server's own wish (Retry-After, RFC 9110, 10.2.3) is obeyed within bounds.
    """
    if after_s is not None and after_s > LONGEST_RETRY_AFTER_S:
        return None
    pause = min(LONGEST_BACKOFF_S, base_s * 2.0**attempt) * (1 - jitter / 2)
    return max(pause, after_s or 0.0)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by model servers and is read as no wish."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def _decoded(body: bytes) -> object:
    """JSON if it is that, else the text."""
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _bad(message: str) -> EngineError:
    return EngineError(message, stage="llm", category="bad_output")


def _broken(message: str, started: bool) -> EngineError:
    """A connection that broke: before the first delta it may be tried again."""
    return EngineError(message, stage="llm", category="unavailable", retryable=True) if started else _Transient(message)
