"""llama.cpp's server loop in this process (xllamacpp), for every engine that runs a GGUF model."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from voiceagent.engines.chat_chunks import complaint
from voiceagent.errors import ConfigError, EngineError, Stage


def start(
    path: Path,
    *,
    slots: int,
    slot_tokens: int,
    batch: int,
    threads: int,
    spins: int,
    gpu_layers: int = 0,
    cache_mib: int = 0,
    stage: Stage = "llm",
) -> Any:
    """A running server loop with `slots` parallel sequences of `slot_tokens` each. Blocking.

    `spins` is how long OpenMP's threads wait busily for each other; the first loop of a process decides. Its HTTP side
    is of no use here and is made unreachable. Raises ConfigError (no xllamacpp) and EngineError (not a model).
    """
    try:
        os.putenv("GOMP_SPINCOUNT", str(spins))  # read by OpenMP when xllamacpp loads it
        import xllamacpp
    except ImportError as error:
        raise ConfigError("llama.cpp: xllamacpp is not installed; run: pip install 'voiceagent[local]'") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = slots
    params.n_ctx = slots * slot_tokens
    params.n_batch = params.n_ubatch = max(batch, slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = gpu_layers
    params.cache_ram_mib = cache_mib
    params.cache_idle_slots = False  # copying a prompt that stays in its slot costs time and saves nothing
    params.n_cache_reuse = 16  # when old items are dropped, shift what was evaluated behind them
    params.prefill_assistant = False  # a conversation that ends with the assistant's words gets a new message
    params.verbosity = -1  # nothing on stdout or stderr
    params.ui = params.endpoint_slots = False
    params.endpoint_metrics = True  # for Server.handle_metrics
    params.n_threads_http = 1
    params.api_keys = [secrets.token_urlsafe(24)]
    with tempfile.TemporaryDirectory(prefix="voiceagent-") as folder:
        if os.name == "posix":
            params.hostnames = [f"{folder}/llama.sock"]  # gone with the folder, once the server listens
        try:
            return xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            message = f"llama.cpp cannot load {path.name}: {complaint(error)}"
            raise EngineError(message, stage=stage, category="unavailable") from error
