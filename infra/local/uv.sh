#!/bin/sh
# Prints the path of a usable uv, getting one from PyPI into .uv/ when the machine has none (or
# one older than pyproject.toml asks for). Progress goes to standard error.
set -eu
cd "$(dirname "$0")/../.."
OLDEST=0.9.0
PINNED=0.13.9

say() { echo "$*" >&2; }

new_enough() { # path of a uv
    version=$("$1" --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$version" ] || return 1
    [ "$(printf '%s\n%s\n' "$OLDEST" "$version" | sort -V | head -n1)" = "$OLDEST" ]
}

for candidate in "$(command -v uv || true)" "${HOME:-}/.local/bin/uv" .uv/bin/uv; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && new_enough "$candidate"; then
        echo "$candidate"
        exit 0
    fi
done

python=$(sh infra/local/python.sh)
say "setup: no uv here, getting uv $PINNED from PyPI into .uv/ with $python"
rm -rf .uv
if "$python" -m venv .uv >/dev/null 2>&1; then
    .uv/bin/python -m pip install --disable-pip-version-check --progress-bar off "uv==$PINNED" >&2
elif "$python" -m pip --version >/dev/null 2>&1; then # Debian without python3-venv
    rm -rf .uv
    "$python" -m pip install --disable-pip-version-check --progress-bar off \
        --target .uv "uv==$PINNED" >&2
else
    rm -rf .uv
    say "setup: $python has neither venv nor pip. Install python3-venv (Debian: apt-get install"
    say "       python3-venv), or uv itself (https://docs.astral.sh/uv/), and try again."
    exit 1
fi
if ! new_enough .uv/bin/uv; then
    say "setup: uv was installed into .uv/ but does not run; remove .uv/ and install uv yourself."
    exit 1
fi
echo .uv/bin/uv
