#!/usr/bin/env bash
# Everything that wants a GPU, within nine minutes, from a checkout and without a network: tests, then the benchmark.
#
#   bash benchmarks/gpu.sh [FOLDER]             results go into FOLDER, else $OUT, else out/gpu
#   bash benchmarks/gpu.sh --rehearse [FOLDER]  the same on a CPU with a small network: only to see that it runs
#
# PYTHON names the interpreter (python3), LIMIT the seconds for all of it (530). Each part has a limit of its own and
# writes what it has as soon as it has it. The exit status is 1 where a part failed.
set -uo pipefail

REHEARSE=""
if [[ "${1:-}" == "--rehearse" ]]; then REHEARSE=1; shift; fi
FOLDER="${1:-${OUT:-out/gpu}}"
mkdir -p "$FOLDER"
FOLDER="$(cd "$FOLDER" && pwd)"
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
LIMIT="${LIMIT:-530}"
FAILED=()

export PYTHONPATH="$PWD" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 MPLBACKEND=Agg
# Several processes have the card at once. By itself, the first JAX process would take three quarters of its memory for
# good; so each takes what it needs, and none more than three tenths.
export XLA_PYTHON_CLIENT_PREALLOCATE=false XLA_PYTHON_CLIENT_MEM_FRACTION=0.30
# The tests have XLA compile as for users; on a CPU they leave its optimisations out.
export JAX_DISABLE_MOST_OPTIMIZATIONS=0
COMMON=(--out "$FOLDER")
if [[ -n "$REHEARSE" ]]; then
  export REHEARSE JAX_PLATFORMS=cpu
  COMMON+=(--device cpu --model resnet18 --image-size 96 --rounds 2 --seconds 0.02)
  FIRST=4 BATCHES=4,1,2
else
  unset REHEARSE
  FIRST=256 BATCHES=256,1,32,1024,8
fi

left() { echo $((LIMIT - SECONDS)); }
least() { echo $(($1 < $2 ? $1 : $2)); }

# part NAME SECONDS COMMAND...: the command within so many seconds, or within what is left.
part() {
  local name="$1" seconds status
  seconds="$(least "$2" "$(left)")"
  shift 2
  if ((seconds < 10)); then echo "== $name: left out, no time"; return; fi
  echo "== $name, at most $seconds s, $(left) s left"
  timeout --kill-after=5 "$seconds" "$@"
  status=$?
  if ((status == 124 || status == 137)); then echo "== $name: stopped after $seconds s"; fi
  if ((status)); then FAILED+=("$name"); fi
}

# bench NAME SECONDS OPTIONS...: benchmarks.gpu ends by itself a little before `part` would end it.
bench() {
  local name="$1" seconds
  seconds="$(least "$2" "$(left)")"
  shift 2
  part "$name" "$seconds" "$PYTHON" -m benchmarks.gpu "${COMMON[@]}" --limit $((seconds > 25 ? seconds - 10 : 15)) "$@"
}

tests() {
  # pyproject's options want plugins that may not be here, and an unrelated warning is no reason to stop. One process:
  # of four beside each other on an H100, one was aborted while it compiled.
  "$PYTHON" -m pytest tests/test_gpu.py -o addopts= -o filterwarnings=default --import-mode=importlib \
    -p no:cacheprovider -rs --durations=5 2>&1 | tee "$FOLDER/tests.txt"
}
export -f tests
export PYTHON FOLDER

part "tests" 120 bash -o pipefail -c tests
bench "bfloat16" 150 --precision bfloat16 --batches "$BATCHES" --profile
bench "tf32" $(($(left) * 2 / 5)) --precision tf32 --batches "$BATCHES"
bench "float32" $(($(left) * 3 / 5)) --precision float32 --batches "$BATCHES"
# It compiles for seven minutes (H100, 16 cores), so it takes what is left. Inductor keeps on disk what it has tried: run
# the script again on the same machine, or give it LIMIT=1000, until it is done.
if (($(left) > 60)); then
  bench "max-autotune" "$(left)" --precision bfloat16 --batches "$FIRST" --slow "$FIRST" --slow-seconds "$(left)" \
    --without "naive JAX,matrix products,grad-cam" --suffix -max-autotune
fi

echo "== $SECONDS s; in $FOLDER:"
ls -1 "$FOLDER"
if ((${#FAILED[@]})); then
  printf '== failed: %s\n' "${FAILED[@]}"
  exit 1
fi
