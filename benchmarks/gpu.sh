#!/usr/bin/env bash
# What this project measures on a CUDA machine, in one command and without a network.
#
#   benchmarks/gpu.sh wheels DIR     on a networked machine: fill DIR with the wheels that a bare machine lacks
#   benchmarks/gpu.sh [FOLDER]       on the machine: tests, speed tables, a slice of `paper`; results into FOLDER
#                                    (default: $OUT, else results/gpu)
#
# WHEELS=DIR: where the wheels are (default: wheels). PYTHON=python3.12: the interpreter. SLICE=300: seconds of the
# slice of `paper`; it reads $RESSFORMER_DATA, else the prose that Python carries stands in, which is said.
# REHEARSE=1: every part on a CPU, at sizes that mean nothing.
# A part that fails does not stop the others. Exit code: 0 if every part passed, 1 if one failed (summary.md and
# summary.json say which), 2 for bad input.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} WHEELS=${WHEELS:-wheels} REHEARSE=${REHEARSE:-} SLICE=${SLICE:-300} DEVICE=cuda
[ -z "$REHEARSE" ] || DEVICE=cpu
# Beside torch, triton, lightning, pandas and transformers, which such a machine has.
NEEDED="hydra-core omegaconf antlr4-python3-runtime==4.9.* pydantic pydantic-core annotated-types typing-inspection \
 rich markdown-it-py mdurl pygments pytest iniconfig pluggy pytest-timeout scipy jinja2 markupsafe"

if [ "${1:-}" = wheels ]; then
  [ $# -eq 2 ] || { echo "gpu.sh: wheels takes a folder: benchmarks/gpu.sh wheels DIR" >&2; exit 2; }
  # antlr4's runtime is a source archive only: `pip wheel` builds it here. Platform and Python must be the machine's.
  # shellcheck disable=SC2086
  "$PYTHON" -m pip wheel --no-deps --wheel-dir "$2" --constraint <(sed -n 's/^\([A-Za-z0-9_.-]*==[^ ;]*\).*/\1/p' requirements.lock) $NEEDED
  exit
fi
[[ $SLICE =~ ^[1-9][0-9]*$ ]] || { echo "gpu.sh: SLICE takes seconds, got $SLICE" >&2; exit 2; }
case "${1:-}" in -*) echo "gpu.sh: unknown option $1; see the head of benchmarks/gpu.sh" >&2; exit 2 ;; esac

out=${1:-${OUT:-results/gpu}}
mkdir -p "$out" 2>/dev/null && [ -w "$out" ] || { echo "gpu.sh: cannot write to $out" >&2; exit 2; }
out=$(cd "$out" && pwd)
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" RESSFORMER_RESULTS="$out/runs" RESSFORMER_TEST_DEVICE=$DEVICE
if ! "$PYTHON" -c 'import hydra, omegaconf, pydantic, rich, scipy, pytest' 2>/dev/null; then
  [ -d "$WHEELS" ] || { echo "gpu.sh: packages are missing and there is no folder $WHEELS: benchmarks/gpu.sh wheels $WHEELS" >&2; exit 2; }
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  # PYTHONPATH comes before the machine's own packages, so only what it lacks is put there.
  lacking=$("$PYTHON" -c 'import sys, importlib.metadata as m
have = {d.metadata["Name"].lower().replace("-", "_").replace(".", "_") for d in m.distributions()}
print(*(p for p in sys.argv[1:] if p.rsplit("/")[-1].split("-")[0].lower().replace(".", "_") not in have), sep="\n")' "$WHEELS"/*.whl)
  mapfile -t lacking <<<"$lacking"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --target "$site" "${lacking[@]}" || exit 2
  export PYTHONPATH="$PYTHONPATH:$site"
fi
if [ "$DEVICE" = cuda ] && ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu.sh: torch sees no CUDA device; REHEARSE=1 rehearses the script" >&2
  exit 2
fi

failed=0 stages=()
printf '# Measured on %s\n\n' "$DEVICE" >"$out/summary.md"
part() { # NAME LIMIT COMMAND...: its output into NAME.log, a line into summary.md
  local name=$1 limit=$2 begun=$SECONDS verdict=passed code
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  [ $code -eq 0 ] || { verdict="FAILED (exit $code)"; failed=1; tail -n 5 "$out/$name.log"; }
  stages+=("{\"part\": \"$name\", \"exit\": $code, \"seconds\": $((SECONDS - begun))}")
  printf -- '- %s: %s, %s s, `%s`\n' "$name" "$verdict" $((SECONDS - begun)) "$*" >>"$out/summary.md"
}

lengths="1024 4096 16384 65536" tokens=65536 tiny=()
[ -z "$REHEARSE" ] || { lengths="256" tokens=256; tiny=(--tiny); }
part tests 900 "$PYTHON" -m pytest -q -m gpu tests/gpu
# shellcheck disable=SC2086
part speed 900 "$PYTHON" -m benchmarks.gpu --device "$DEVICE" --dtype bf16 --lengths $lengths --tokens $tokens --out "$out" "${tiny[@]}"
slice=(table=paper "table.seeds=[0]" "table.models=[transformer,ressformer]" launcher.n_jobs=1 launcher=basic)
if [ -n "$REHEARSE" ] || [ -z "${RESSFORMER_DATA:-}" ]; then
  mkdir -p "$out/text"
  "$PYTHON" -c 'import sys, pydoc_data.topics as t
open(sys.argv[1], "w", encoding="utf-8").write("\n\n".join(t.topics[k] for k in sorted(t.topics)))' "$out/text/topics.txt"
  slice+=("table.tasks=[text]" "task.path=$out/text" task.long_context=true)
  printf -- '- the slice reads the prose that Python carries, not the data sets of `paper`\n' >>"$out/summary.md"
fi
[ -z "$REHEARSE" ] || slice+=(table.budget=tiny budget.train_flops=1e9 budget.tolerance_flops=0.5 task.length=64 \
  task.batch_size=2 task.n_validation=4 task.n_test=4 trainer.compile=false)
# The slice ends by the clock, not by the budget: 130 and 124 are its ordinary ends.
part slice $((SLICE + 120)) bash -c 'timeout --signal=INT "$0" "${@:1}"; c=$?; case $c in 0|124|130) exit 0;; *) exit $c;; esac' \
  "$SLICE" "$PYTHON" -m experiments reproduce "${slice[@]}"
(IFS=,; printf '{"device": "%s", "rehearsal": %s, "parts": [%s]}\n' "$DEVICE" "$([ -n "$REHEARSE" ] && echo true || echo false)" "${stages[*]}") >"$out/summary.json"
cat "$out/summary.md"
exit $failed
