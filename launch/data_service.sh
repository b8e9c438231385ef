#!/usr/bin/env bash
# A tf.data service on this host: a dispatcher and N workers that decode images for training runs.
#   bash launch/data_service.sh 2 [PORT=5050] [HOST=localhost]
#   python -m crackflow.train --data_service=grpc://HOST:5050 --data=... --run_dir=...
# HOST is what the hosts that train call this one; they are sent to its workers by that name. Without it all listen to this
# machine alone. With it they listen on every address, and whoever reaches a port reads and writes files as this user: the
# network must be closed to all but the hosts of the run. More decoding hosts: on each
#   python -m crackflow.data_service --role=worker --dispatcher=grpc://HOST:5050 --host="$(hostname)"
# The shards must lie under the same path on all of them. Ctrl-C ends all.
set -euo pipefail

workers="${1:-}"
port="${2:-5050}"
host="${3:-localhost}"
if ! [[ "$workers" =~ ^[1-9][0-9]*$ && "$port" =~ ^[0-9]+$ ]]; then
    echo "usage: bash launch/data_service.sh N [PORT] [HOST]" >&2
    exit 2
fi
python="${PYTHON:-python}"

pids=()
end_all() {
    trap - INT TERM EXIT
    kill "${pids[@]}" 2> /dev/null || true
    wait || true
}
trap end_all EXIT
trap 'exit 130' INT TERM

"$python" -m crackflow.data_service --role=dispatcher --port="$port" --host="$host" &
pids+=("$!")
until "$python" -c "import socket; socket.create_connection(('localhost', $port), 1)" 2> /dev/null; do
    kill -0 "${pids[0]}" 2> /dev/null || exit 2
    sleep 0.2
done
for ((worker = 0; worker < workers; worker++)); do
    "$python" -m crackflow.data_service --role=worker --dispatcher="grpc://localhost:$port" --host="$host" &
    pids+=("$!")
done
wait -n "${pids[@]}" # none of them ends by itself
