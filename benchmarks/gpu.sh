#!/usr/bin/env bash
# What this project measures on a CUDA machine, in one command and without a network.
#
#   benchmarks/gpu.sh wheels DIR     on a networked machine: fill DIR with the wheels that a bare machine lacks
#   benchmarks/gpu.sh [FOLDER]       on the machine: tests, speed tables, a slice of `paper`; results into FOLDER
#                                    (default: $OUT, else results/gpu)
#
# WHEELS=DIR: where the wheels are (default: wheels). PYTHON=python3.12: the interpreter. DEVICE=cpu TINY=1: a
# rehearsal of the script at sizes that mean nothing. SLICE=300: seconds of the slice of `paper`.
# Exit code: 0 if every part passed, 1 if one failed (summary.md says which), 2 for bad input.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} WHEELS=${WHEELS:-wheels} DEVICE=${DEVICE:-cuda} SLICE=${SLICE:-300} TINY=${TINY:-}
# Beside torch, triton, lightning, pandas and transformers, which such a machine has.
NEEDED="hydra-core omegaconf antlr4-python3-runtime==4.9.* pydantic pydantic-core annotated-types typing-inspection \
 rich markdown-it-py mdurl pygments pytest iniconfig pluggy pytest-timeout scipy jinja2 markupsafe tabulate"

if [ "${1:-}" = wheels ]; then
  [ $# -eq 2 ] || { echo "gpu.sh: wheels takes a folder: benchmarks/gpu.sh wheels DIR" >&2; exit 2; }
  # antlr4's runtime is a source archive only: `pip wheel` builds it here. Platform and Python must be the machine's.
  # shellcheck disable=SC2086
  exec "$PYTHON" -m pip wheel --no-deps --wheel-dir "$2" $NEEDED
fi
case "${1:-}" in -*) echo "gpu.sh: unknown option $1; see the head of benchmarks/gpu.sh" >&2; exit 2 ;; esac

out=${1:-${OUT:-results/gpu}}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" RESSFORMER_RESULTS="$out/runs" RESSFORMER_TEST_DEVICE=$DEVICE
if ! "$PYTHON" -c 'import hydra, omegaconf, pydantic, rich, scipy, pytest' 2>/dev/null; then
  [ -d "$WHEELS" ] || { echo "gpu.sh: packages are missing and there is no folder $WHEELS: benchmarks/gpu.sh wheels $WHEELS" >&2; exit 2; }
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$site" "$WHEELS"/*.whl || exit 2
  export PYTHONPATH="$PYTHONPATH:$site" # last: what the machine has comes first
fi
if [ "$DEVICE" = cuda ] && ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu.sh: torch sees no CUDA device; DEVICE=cpu TINY=1 rehearses the script" >&2
  exit 2
fi

failed=0
printf '# Measured on %s\n\n' "$DEVICE" >"$out/summary.md"
part() { # NAME LIMIT COMMAND...: its output into NAME.log, a line into summary.md
  local name=$1 limit=$2 begun=$SECONDS verdict=passed code
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  [ $code -eq 0 ] || { verdict="FAILED (exit $code)"; failed=1; tail -n 5 "$out/$name.log"; }
  printf -- '- %s: %s, %s s, `%s`\n' "$name" "$verdict" $((SECONDS - begun)) "$*" >>"$out/summary.md"
}

lengths="1024 4096 16384 65536" tokens=65536 tiny=()
[ -z "$TINY" ] || { lengths="256" tokens=256; tiny=(--tiny); }
part tests 900 "$PYTHON" -m pytest -q -m gpu tests/gpu
# shellcheck disable=SC2086
part speed 900 "$PYTHON" -m benchmarks.gpu --device "$DEVICE" --dtype bf16 --lengths $lengths --tokens $tokens --out "$out" "${tiny[@]}"
slice=(table=paper "table.seeds=[0]" "table.models=[transformer,ressformer]" launcher.n_jobs=1 launcher=basic)
[ -z "$TINY" ] || slice=(table=smoke "table.models=[transformer]" "table.tasks=[chain]" launcher=basic "results_dir=$RESSFORMER_RESULTS")
# The slice ends by the clock, not by the budget: 130 and 124 are its ordinary ends.
part slice $((SLICE + 120)) bash -c 'timeout --signal=INT "$0" "${@:1}"; c=$?; case $c in 0|124|130) exit 0;; *) exit $c;; esac' \
  "$SLICE" "$PYTHON" -m experiments.ledger run "${slice[@]}"
cat "$out/summary.md"
exit $failed
