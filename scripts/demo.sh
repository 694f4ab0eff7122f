#!/bin/sh
# The main job in one command: a daemon on a private socket and root, one container, its output; nothing is left.
# usage: demo.sh FOLDER-WITH-PROGRAMS [IMAGE]
set -eu
programs=$(cd "$1" && pwd)
image=${2:-hoist.local/hello:latest}
if [ "$(id -u)" != 0 ]; then
    echo "demo: hoistd needs root; run: sudo make demo" >&2
    exit 1
fi
folder=$(mktemp -d /tmp/hoist-demo-XXXXXX)
pid=""
finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$pid" ]; then
        kill -TERM "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    fi
    if [ "$status" != 0 ] && [ -s "$folder/hoistd.log" ]; then
        echo "demo: the daemon's log:" >&2
        tail -n 40 "$folder/hoistd.log" >&2
    fi
    rm -rf "$folder"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM
socket=$folder/hoist.sock
echo "demo: hoistd --root $folder/root --state $folder/state --address $socket"
"$programs/hoistd" --config /dev/null --root "$folder/root" --state "$folder/state" --address "$socket" 2>"$folder/hoistd.log" &
pid=$!
tries=0
until [ -S "$socket" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ] || ! kill -0 "$pid" 2>/dev/null; then
        echo "demo: hoistd did not come up" >&2
        exit 1
    fi
    sleep 0.05
done
echo "demo: hoist run --rm $image"
"$programs/hoist" --address "$socket" run --rm "$image"
echo "demo: done, nothing is left behind"
