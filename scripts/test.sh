#!/bin/sh
# Runs every test: nextest where it is installed, cargo's own runner elsewhere.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || echo "test: not root: tests that need root will say that they were skipped"
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked --workspace --no-fail-fast
fi
exec cargo test --locked --workspace --no-fail-fast
