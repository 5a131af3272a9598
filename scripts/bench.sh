#!/usr/bin/env bash
# Runs the benchmarks against servers that wait for the disk, as a user's do. TARGET=mongodb measures MongoDB as V2.
# Arguments go to `cargo bench`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${TARGET:-postgres}
servers=(postgres)
if [ "$target" = mongodb ]; then servers+=(mongodb); fi

stop=yes
if scripts/services.sh env >/dev/null 2>&1; then stop=no; fi
# Servers that were there before go on, back in the mode in which tests are quick.
finish() {
    if [ $stop = yes ]; then scripts/services.sh down; else V1V2_SERVICES_DURABLE=0 scripts/services.sh up postgres; fi
}
trap finish EXIT

V1V2_SERVICES_DURABLE=1 scripts/services.sh up "${servers[@]}"
eval "$(scripts/services.sh env)"
if [ $# = 0 ]; then set -- --; fi
cargo bench --bench speed "$@" --target "$target"
