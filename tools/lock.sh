#!/usr/bin/env bash
# Rewrites requirements.lock: every package with its exact version and the hashes of its files.
#
#   make lock                     keep the versions already in the lock where they still fit
#   make lock ARGS=--upgrade      take the newest of everything but the pins below
#
# Resolved for Python 3.11; the same versions install on 3.12. The resolver sees no index but its default
# one, so that a hash covers every file of a release, not the one file a local mirror happens to hold.
#
# torch has neither hash nor local tag, and what only its CUDA build needs is left out: the CPU build is
# another file under another tag and needs none of it. The installer adds what the build it finds asks for.
set -euo pipefail
cd "$(dirname "$0")/.."

# What pyproject.toml leaves open and tests were run with. 2.4.6 is the last numpy that Python 3.11 can take.
pins='torch==2.13.0
numpy==2.4.6'
cuda_only='^(nvidia-|cuda-|triton)'

uv=${UV:-.venv/bin/uv}
command -v "$uv" >/dev/null || { echo "lock: no $uv here; run 'make install', or name one with UV=" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' "$pins" > "$work/pins.txt"
[ -f requirements.lock ] && cp requirements.lock "$work/out.lock"

links=()
for link in ${PIP_FIND_LINKS:-}; do links+=(--find-links "$link"); done
env -u UV_INDEX -u UV_EXTRA_INDEX_URL -u PIP_EXTRA_INDEX_URL \
    "$uv" pip compile pyproject.toml --extra dev --extra slurm --extra tensorboard --python-version 3.11 \
    --constraint "$work/pins.txt" "${links[@]}" --no-emit-index-url --no-emit-find-links \
    --generate-hashes --no-annotate --no-header --quiet --output-file "$work/out.lock" "$@"

{
    echo "# Made by 'make lock' (tools/lock.sh) with $("$uv" --version | cut -d' ' -f1-2) from pyproject.toml with the extras dev, slurm and tensorboard,"
    echo "# for Python 3.11 and 3.12. torch carries no hash: its CPU build is another file than its CUDA build."
    awk -v drop="$cuda_only" '
        /^[a-z0-9]/ { torch = ($0 ~ /^torch==/); dropped = ($0 ~ drop) }
        dropped || (torch && /--hash/) { next }
        torch { sub(/\+[a-z0-9.]+/, ""); sub(/ *\\$/, "") }
        { print }
    ' "$work/out.lock"
} > "$work/requirements.lock"
mv "$work/requirements.lock" requirements.lock
echo "requirements.lock: $(grep -c '^[a-z0-9].*==' requirements.lock) packages"
