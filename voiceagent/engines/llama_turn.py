"""End of turn by a language model: how likely the words said so far are all there will be. Engine "llama" of "turn".

The model reads a short conversation, what the agent said last and the user's words without their last mark; the
probability of its next token being an end of sentence or of turn, against a comma, is the cue (as in TurnGPT, Ekstedt
and Skantze 2020). A model and a context of its own, so that it works beside any LLM; the weights are the same pages of
memory where that is the embedded one. What was read stays evaluated, so a question costs only its new words.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from voiceagent.core.items import Item, Message
from voiceagent.engines import weights
from voiceagent.engines.llama_server import start
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.ports import TurnScore

# A few turns as people take them: they tell the model that it reads speech, and what the end of a turn looks like.
_EXAMPLES = (
    ("What time is it?", "It is ten o'clock."),
    ("I want to go to the park this afternoon.", "That sounds like fun."),
    ("How far is it from here?", "About two miles."),
    ("Yes.", "Good."),
)
_INSTRUCTIONS = "You are a friendly voice assistant in a spoken conversation."
_MARKS = " \t\n.,?!;:\u2026-"  # that a recogniser puts after any fragment
_SHOWN = 200  # tokens whose probabilities are added up; the rest is far below what matters
_LAST_CHARS, _MOST_CHARS = 160, 400  # of the agent's last words, and of the user's
_LEAST = 1e-5
_KNOWN = 64  # answers kept, of all sessions
# Logistic regression of "the turn is over" on ln P(end), ln P(comma), on 166 texts in six voices, heard by Whisper:
# benchmarks/turn_detection.py fits it anew.
_START, _OF_END, _OF_COMMA = 0.42, 1.07, -0.46


class LlamaTurn:
    """Loads once, asked by every session. `load` raises ConfigError, `score` EngineError."""

    rate = 16_000
    wants_s = 0.0  # text only
    weight = 0.82  # of its log odds beside the words' (core/endpointing.py)

    @dataclass(frozen=True, slots=True)
    class Options:
        """What agent.toml may set. `model`: path of a GGUF chat model; "" is the embedded SmolLM2-135M-Instruct."""

        model: str = ""
        threads: int = field(default=1, metadata={"min": 1})

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()
        if self._options.threads < 1:
            raise ConfigError("turn llama: threads must be at least 1")
        self.cost_s = 0.03  # until `load` has measured it
        self._worker: Worker[str, float] | None = None

    def load(self) -> None:
        """Load the model, measure what a question costs. Blocking. Raises ConfigError."""
        if self._worker is not None:
            return
        path = Path(self._options.model).expanduser() if self._options.model else weights.verify(weights.SMOLLM2)
        if not path.is_file():
            raise ConfigError(f"turn llama: the model file {path} does not exist")

        def fresh() -> Callable[[list[str]], list[float | Exception]]:
            server = start(
                path, slots=1, slot_tokens=1024, batch=64, threads=self._options.threads, spins=1000, stage="turn"
            )
            return Judging(partial(_ask, server))

        try:
            run = fresh()
        except EngineError as error:
            raise ConfigError(f"turn llama: {error}") from error
        run([prompt("What is", ())])
        self.cost_s = statistics.median(_timed(run, f"What is the name of {name}") for name in ("this", "a", "he"))
        self._worker = Worker("llama-turn", "turn", run, reload=fresh)

    @property
    def worker(self) -> Worker[str, float] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        """How likely the user, who has said `text` after `items`, has finished. Does not listen to `pcm`.

        Nobody who has said nothing has. Raises EngineError.
        """
        if self._worker is None:
            raise EngineError("the llama turn detector is not loaded", stage="turn", category="unavailable")
        asked = time.perf_counter()
        if not text.strip(_MARKS):
            return TurnScore(0.0)
        try:
            probability = await self._worker.submit(prompt(text, items))
        except Overloaded as error:
            raise EngineError(str(error), stage="turn", category="unavailable", retryable=True) from error
        return TurnScore(probability, time.perf_counter() - asked)

    async def aclose(self) -> None:
        """End the thread. Idempotent; `score` then raises EngineError."""
        if self._worker is not None:
            await self._worker.aclose()


class Judging:
    """Asks about each prompt once: most were read along already when the pause comes. In the worker's thread."""

    def __init__(self, ask: Callable[[str], float | EngineError]) -> None:
        self._ask = ask
        self._known: OrderedDict[str, float] = OrderedDict()

    def __call__(self, prompts: list[str]) -> list[float | Exception]:
        return [self._judge(text) for text in prompts]

    def _judge(self, text: str) -> float | EngineError:
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text]
        answer = self._ask(text)
        if not isinstance(answer, EngineError):
            self._known[text] = answer
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return answer


def _timed(run: Callable[[list[str]], Any], text: str) -> float:
    began = time.perf_counter()
    run([prompt(text, ())])
    return time.perf_counter() - began


def _ask(server: Any, text: str) -> float | EngineError:
    """In the worker's thread."""
    body = {
        "prompt": text,
        "max_tokens": 1,
        "n_probs": _SHOWN,
        "temperature": 0.0,
        "cache_prompt": True,
        "id_slot": 0,
    }
    try:
        answer = server.handle_completions(body)
        return finished(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"])
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        return EngineError(f"llama.cpp cannot judge this: {error}", stage="turn", category="internal")


def prompt(text: str, items: Sequence[Item]) -> str:
    """What the model reads: the examples, the agent's last words if any, and the user's without their last mark."""
    said = "".join(_line("user", user) + _line("assistant", agent) for user, agent in _EXAMPLES)
    last = next((item for item in reversed(items) if isinstance(item, Message) and item.role != "system"), None)
    if last is not None and last.role == "assistant" and last.text.strip():
        said += _line("user", "Hello.") + _line("assistant", last.text.strip()[-_LAST_CHARS:])
    words = _plain(text).rstrip(_MARKS)[-_MOST_CHARS:]
    return f"{_line('system', _INSTRUCTIONS)}{said}<|im_start|>user\n{words}"


def finished(tokens: Sequence[Mapping[str, Any]]) -> float:
    """The probability of an end, from the likeliest next tokens (`token`, `logprob`)."""
    end = comma = _LEAST
    for entry in tokens:
        shown = str(entry["token"]).strip()
        if not shown or shown[0] in ".?!" or shown == "<|im_end|>":
            end += math.exp(float(entry["logprob"]))
        elif shown[0] in ",;:-":
            comma += math.exp(float(entry["logprob"]))
    return 1 / (1 + math.exp(-(_START + _OF_END * math.log(end) + _OF_COMMA * math.log(comma))))


def _line(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{_plain(text)}<|im_end|>\n"


def _plain(text: str) -> str:
    """Without what the model would take for the marks of a turn."""
    return text.replace("<|", "< |").replace("\n", " ")
