#!/bin/sh
# Makes a virtual environment with the first Python >= 3.11 found, or says what to install. Usage: venv.sh DIR [PYTHON]
set -eu
dir=$1
wanted=${2:-}

for python in ${wanted:-python3 python3.11 python3.12 python3.13 python3.14}; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        break
    fi
    python=
done
if [ -z "$python" ]; then
    echo "voiceagent needs Python >= 3.11; found: $(${wanted:-python3} --version 2>&1 || true)." >&2
    echo "Install it (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$python cannot make virtual environments." >&2
    echo "Debian, Ubuntu: apt install python3-venv (or python$version-venv for this very version), then run make again." >&2
    exit 1
fi
echo "Making $dir with $("$python" --version)"
"$python" -m venv --clear "$dir"
printf '*\n' >"$dir/.gitignore"
