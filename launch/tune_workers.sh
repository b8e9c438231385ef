#!/usr/bin/env bash
# One search shared by N workers on this host, over loopback, and a chief that gives out the trials.
#   bash launch/tune_workers.sh 2 [--restarts=3] --data=data/metu --out=runs/search ...
# All other arguments go to crackflow.tune. Where the host has a GPU for each worker, each gets one. Whoever dies is started
# again, --restarts times; the search resumes where it stood. Exit code: that of the chief; 75 when it or all workers died
# more often, or after Ctrl-C or SIGTERM.
set -euo pipefail

usage() {
    echo "usage: bash launch/tune_workers.sh N [--restarts=3] --data=... --out=... (flags of crackflow.tune)" >&2
    exit 2
}

workers="${1:-}"
[[ "$workers" =~ ^[1-9][0-9]*$ ]] || usage
shift
restarts=3
flags=()   # of everybody
once=()    # of the chief's first start: another would begin anew each time
for argument in "$@"; do
    case "$argument" in
        --restarts=*) restarts="${argument#*=}" ;;
        --overwrite*) once+=("$argument") ;;
        *) flags+=("$argument") ;;
    esac
done
[[ "$restarts" =~ ^[0-9]+$ ]] || usage
GRACE_SECONDS="${GRACE_SECONDS:-40}" # for a checkpoint after SIGTERM, before SIGKILL
TRY_AGAIN=75
python="${PYTHON:-python}"

gpus=()
if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    IFS=, read -ra gpus <<< "$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi > /dev/null; then
    mapfile -t gpus < <(nvidia-smi -L 2> /dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p')
fi
KERASTUNER_ORACLE_IP=127.0.0.1
KERASTUNER_ORACLE_PORT="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
export KERASTUNER_ORACLE_IP KERASTUNER_ORACLE_PORT

# supervise NAME [flags]: in a subshell of its own; ends with the exit code of the last start.
supervise() {
    local attempt code pid="" stopping="" first=("${@:2}")
    export KERASTUNER_TUNER_ID="$1"
    trap 'stopping=yes; [[ -n "$pid" ]] && kill -TERM "$pid" 2> /dev/null' TERM
    trap '' INT # a terminal sends it to all; end_all says it once, as SIGTERM
    for ((attempt = 0; ; attempt++)); do
        "$python" -m crackflow.tune "${first[@]}" "${flags[@]}" &
        pid=$!
        code=0
        wait "$pid" || code=$?
        # A signal ends the wait, not the process.
        while kill -0 "$pid" 2> /dev/null; do code=0; wait "$pid" || code=$?; done
        first=()
        [[ -n "$stopping" ]] && exit "$TRY_AGAIN"
        ((code <= 2 || code == 130)) && exit "$code" # done, or its own words
        ((attempt >= restarts)) && exit "$TRY_AGAIN"
        echo "tune_workers.sh: $1 ended with code $code; starting it again ($((attempt + 1)) of $restarts)" >&2
        sleep 1
    done
}

(CUDA_VISIBLE_DEVICES="" supervise chief ${once[@]+"${once[@]}"}) &
chief=$!
pids=()
for ((worker = 0; worker < workers; worker++)); do
    (
        if ((${#gpus[@]} >= workers && workers > 1)); then export CUDA_VISIBLE_DEVICES="${gpus[worker]}"; fi
        supervise "worker-$worker" ${once[@]+"${once[@]}"}
    ) &
    pids+=("$!")
done

end_all() {
    local waited pid left
    kill -TERM "$chief" "${pids[@]}" 2> /dev/null || true
    for ((waited = 0; waited < 10 * GRACE_SECONDS; waited++)); do
        left=""
        for pid in "$chief" "${pids[@]}"; do kill -0 "$pid" 2> /dev/null && left=yes; done
        [[ -z "$left" ]] && break
        sleep 0.1
    done
    for pid in "$chief" "${pids[@]}"; do
        pkill -KILL -P "$pid" 2> /dev/null || true
        kill -KILL "$pid" 2> /dev/null || true
    done
    wait || true
}

stopping=""
trap 'stopping=yes' INT TERM
while true; do
    if [[ -n "$stopping" ]]; then
        end_all
        exit "$TRY_AGAIN"
    fi
    if ! kill -0 "$chief" 2> /dev/null; then
        code=0
        wait "$chief" || code=$?
        end_all # workers that came late, or wait for a chief that will not come back
        exit "$code"
    fi
    left=()
    for pid in "${pids[@]}"; do
        if kill -0 "$pid" 2> /dev/null; then
            left+=("$pid")
            continue
        fi
        code=0
        wait "$pid" || code=$?
        if ((code == 1 || code == 2)); then # a message for the user: starting again would say the same
            end_all
            exit "$code"
        fi
        if ((code == 0)); then left+=("$chief"); fi # it was told that there are no more trials: the chief ends soon
    done
    pids=(${left[@]+"${left[@]}"})
    if ((${#pids[@]} == 0)); then
        echo "tune_workers.sh: no worker is left after $restarts restarts each; the same command resumes" >&2
        pids=("$chief")
        end_all
        exit "$TRY_AGAIN"
    fi
    sleep 0.3
done
