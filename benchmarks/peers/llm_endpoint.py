"""The embedded language model as an OpenAI-compatible endpoint in a process of its own, for everybody who is compared.

`python -m benchmarks.peers.llm_endpoint PORT`: llama.cpp's HTTP server inside xllamacpp, with the options and the
sampling of the engine "llama" (voiceagent/engines/llama_llm.py). Prints "ready" when the model answers.
"""

from __future__ import annotations

import os
import signal
import sys

from voiceagent.engines import weights
from voiceagent.engines.llama_llm import LlamaOptions

MODEL = "smollm2"


def main() -> None:
    """Serve until SIGTERM."""
    options = LlamaOptions()
    os.putenv("GOMP_SPINCOUNT", str(options.spins))
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights.verify(weights.SMOLLM2))
    params.model_alias = {MODEL}
    params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[1])
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.slot_tokens
    params.n_batch = params.n_ubatch = max(options.batch, options.slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads or min(2, os.cpu_count() or 1)
    params.cache_ram_mib = options.cache_mib
    params.cache_idle_slots = False
    params.n_cache_reuse = 16
    params.prefill_assistant = False
    params.verbosity = -1
    params.ui = params.endpoint_slots = False
    params.n_predict = options.max_tokens
    params.sampling.temp, params.sampling.top_p, params.sampling.min_p = (
        options.temperature,
        options.top_p,
        options.min_p,
    )
    params.sampling.penalty_repeat = options.repeat_penalty
    params.sampling.dry_multiplier = options.phrase_penalty
    params.sampling.seed = options.seed
    server = xllamacpp.Server(params)
    server.handle_chat_completions({"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2})
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
