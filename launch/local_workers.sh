#!/usr/bin/env bash
# N workers of one training run on this host, over loopback. When one dies all are started again, and the run resumes
# from its last checkpoint.
#   bash launch/local_workers.sh 2 [--restarts=3] --data=data/metu --run_dir=runs/metu ...
# All other arguments go to crackflow.train. Where the host has a GPU for each worker, each gets one. Exit code: that of
# the run; 75 when a worker died more often than --restarts allows, or after Ctrl-C or SIGTERM.
set -euo pipefail

usage() {
    echo "usage: bash launch/local_workers.sh N [--restarts=3] --data=... --run_dir=... (flags of crackflow.train)" >&2
    exit 2
}

workers="${1:-}"
[[ "$workers" =~ ^[1-9][0-9]*$ ]] || usage
shift
restarts=3
flags=()
for argument in "$@"; do
    case "$argument" in
        --restarts=*) restarts="${argument#*=}" ;;
        *) flags+=("$argument") ;;
    esac
done
[[ "$restarts" =~ ^[0-9]+$ ]] || usage
GRACE_SECONDS="${GRACE_SECONDS:-30}" # for a checkpoint after SIGTERM, before SIGKILL
TRY_AGAIN=75
python="${PYTHON:-python}"

gpus=()
if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    IFS=, read -ra gpus <<< "$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi > /dev/null; then
    mapfile -t gpus < <(nvidia-smi -L 2> /dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p')
fi

pids=()
stopping=""

start() {
    local ports addresses="" config worker
    ports="$("$python" - "$workers" << 'EOF'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
EOF
    )"
    for port in $ports; do addresses+="${addresses:+, }\"127.0.0.1:$port\""; done
    pids=()
    for ((worker = 0; worker < workers; worker++)); do
        config="{\"cluster\": {\"worker\": [$addresses]}, \"task\": {\"type\": \"worker\", \"index\": $worker}}"
        (
            if ((${#gpus[@]} >= workers && workers > 1)); then export CUDA_VISIBLE_DEVICES="${gpus[worker]}"; fi
            TF_CONFIG="$config" exec "$python" -m crackflow.train "${flags[@]}"
        ) &
        pids+=("$!")
    done
}

running() {
    local pid
    for pid in "${pids[@]}"; do kill -0 "$pid" 2> /dev/null && return 0; done
    return 1
}

end_all() {
    local waited
    kill -TERM "${pids[@]}" 2> /dev/null || true
    for ((waited = 0; waited < 10 * GRACE_SECONDS; waited++)); do
        running || break
        sleep 0.1
    done
    kill -KILL "${pids[@]}" 2> /dev/null || true
    wait || true
}

# The first worker that fails decides; prints its exit code, 0 when all have ended well.
first_failure() {
    local left="${#pids[@]}" code
    while ((left > 0)); do
        code=0
        wait -n "${pids[@]}" 2> /dev/null || code=$?
        [[ -n "$stopping" ]] && return "$TRY_AGAIN"
        ((code == 127)) && return 0 # none is left to wait for
        ((code != 0)) && return "$code"
        left=$((left - 1))
    done
    return 0
}

trap 'stopping=yes' INT TERM
for ((attempt = 0; ; attempt++)); do
    start
    code=0
    first_failure || code=$?
    ((code == 0)) && exit 0
    end_all
    [[ -n "$stopping" ]] && exit "$TRY_AGAIN"
    # 1 and 2 are the run's own words; anything else is a death: killed, out of memory, or another worker lost.
    ((code == 1 || code == 2)) && exit "$code"
    if ((attempt >= restarts)); then
        echo "local_workers.sh: a worker ended with code $code after $attempt restarts; the same command resumes" >&2
        exit "$TRY_AGAIN"
    fi
    echo "local_workers.sh: a worker ended with code $code; starting all $workers again ($((attempt + 1)) of $restarts)" >&2
    # A second start must go on, not begin anew.
    kept=()
    for flag in "${flags[@]}"; do [[ "$flag" == --overwrite* ]] || kept+=("$flag"); done
    flags=("${kept[@]}")
done
