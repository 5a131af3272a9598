#!/usr/bin/env bash
# Measures the document step of `v1v2 evolve` on a throw-away MongoDB. Arguments go to `cargo bench`, such as
# `scripts/bench_evolve.sh -- --documents 200000 --rounds 3`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop=yes
if scripts/services.sh env >/dev/null 2>&1; then stop=no; fi
finish() {
    if [ $stop = yes ]; then scripts/services.sh down; fi
}
trap finish EXIT

V1V2_SERVICES_DURABLE=1 scripts/services.sh up mongodb
eval "$(scripts/services.sh env)"
if [ $# = 0 ]; then set -- --; fi
cargo bench --bench evolve "$@"
