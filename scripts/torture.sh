#!/usr/bin/env bash
# Any moment is a safe moment to die: kills the program N times at random moments, and at each fail point once.
# The seed is printed; SEED=… chooses the same moments again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop=yes
if scripts/services.sh env >/dev/null 2>&1; then stop=no; fi
finish() { [ $stop = no ] || scripts/services.sh down || true; }
trap finish EXIT

scripts/services.sh up
eval "$(scripts/services.sh env)"
export V1V2_TORTURE_KILLS=${N:-2000}
export V1V2_TORTURE_VISITS=all
if [ -n "${SEED:-}" ]; then export V1V2_TORTURE_SEED=$SEED; fi
cargo test --features failpoints --test all -- --nocapture torture
