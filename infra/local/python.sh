#!/bin/sh
# Prints a Python 3.11 or newer: the project's own if it is set up, else the machine's.
set -eu
cd "$(dirname "$0")/../.."
for candidate in .venv/bin/python python3.11 python3.12 python3.13 python3 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
echo "setup: no Python 3.11 or newer found (looked for python3.11 to python3.14 and python3)." >&2
exit 1
