#!/usr/bin/env bash
# Everything that must hold before a change is merged, on servers of its own: what `make test` and CI run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Servers that somebody already uses here (the demo's, another shell's tests) are used too, but not stopped.
stop=yes
if scripts/services.sh env >/dev/null 2>&1; then stop=no; fi
# A trap on EXIT leaves the exit code as it is; it also runs when the servers come up only in part.
finish() { [ $stop = no ] || scripts/services.sh down || true; }
trap finish EXIT

step() {
    printf '\n== %s\n' "$*" >&2
    "$@" </dev/null
}

# First, because what they need to install may be missing, which is better known now than after the build.
step scripts/services.sh up
eval "$(scripts/services.sh env)"
step make --no-print-directory lint
# Plain `cargo test`: a newcomer's machine has no other runner. In CI, a Cargo.lock that is not up to date is an error.
# With the fail points, which a release build refuses (src/failpoint.rs); no second build without them. Two tests for
# each core: many of them wait for a server that comes back, or for an answer that never comes.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
# They take some ten minutes; after an hour something hangs, and what was said so far tells what.
step timeout --kill-after=60 3600 cargo test --features failpoints ${CI:+--locked}
step env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
printf '\nAll green.\n' >&2
