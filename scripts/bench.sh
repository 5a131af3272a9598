#!/usr/bin/env bash
# Runs the benchmarks against Postgres servers that wait for the disk, as a user's do. Arguments go to `cargo bench`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop=yes
if scripts/services.sh env >/dev/null 2>&1; then stop=no; fi
# Servers that were there before go on, back in the mode in which tests are quick.
finish() {
    if [ $stop = yes ]; then scripts/services.sh down; else V1V2_SERVICES_DURABLE=0 scripts/services.sh up postgres; fi
}
trap finish EXIT

V1V2_SERVICES_DURABLE=1 scripts/services.sh up postgres
eval "$(scripts/services.sh env)"
cargo bench "$@"
