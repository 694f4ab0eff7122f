#!/bin/sh
# Prints the table of figures against Debian's containerd and runc. usage: bench.sh FOLDER-WITH-PROGRAMS [OPTIONS]
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
    echo "bench: needs root" >&2
    exit 1
fi
stage=$1
shift
exec target/release/bench --stage "$stage" "$@"
