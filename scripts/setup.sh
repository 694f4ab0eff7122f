#!/bin/sh
# Installs what building and testing need on Debian 12. Does nothing where it is all there.
set -eu
packages="gcc libc6-dev pkg-config make libseccomp-dev busybox-static containerd runc docker-registry \
apache2-utils openssl jq strace skopeo umoci curl procps python3 python3-venv util-linux"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: these Debian packages are missing and need root to install:$missing" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # Packages that start a service must not: the tests start private ones.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d.hoist && chmod 0755 /usr/sbin/policy-rc.d.hoist
    kept=""
    if [ -e /usr/sbin/policy-rc.d ]; then kept=yes; else mv /usr/sbin/policy-rc.d.hoist /usr/sbin/policy-rc.d; fi
    status=0
    # shellcheck disable=SC2086
    apt-get -qq install -y --no-install-recommends $missing >/dev/null || status=$?
    if [ -z "$kept" ]; then rm -f /usr/sbin/policy-rc.d; else rm -f /usr/sbin/policy-rc.d.hoist; fi
    [ "$status" = 0 ] || { echo "setup: apt-get failed with status $status" >&2; exit "$status"; }
fi
if ! command -v cargo >/dev/null; then
    echo "setup: a stable Rust toolchain is needed (https://rustup.rs)" >&2
    exit 1
fi
