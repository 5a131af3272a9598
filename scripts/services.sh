#!/usr/bin/env bash
# Throw-away database servers for the demo, the tests and the benchmarks: two Postgres clusters (V1 and V2) and a
# MongoDB replica set of one member, private to this checkout.
#
# Why not the servers that the machine already has: tests create and drop databases, cut connections and fill
# disks. They need servers that nobody else uses, with a superuser, that appear without a question asked and
# disappear without a trace. Everything lives in `.services/` at the root of the repository, on ports that the
# operating system says are free, so any number of checkouts can do this side by side. (MongoDB's data is in memory
# where there is plenty of it.)
#
# Usage: see `usage` below. Environment:
#   V1V2_SERVICES_DURABLE=1|0  whether the servers wait for the disk. New ones do not (a lost test database is no loss);
#                              benchmarks set 1. Running Postgres servers are switched over; unset leaves them as they are.
#   V1V2_PG_BIN                folder of initdb, pg_ctl and psql, instead of the newest one found
#   V1V2_MONGOD                the mongod program, instead of the one found or downloaded
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/services.sh up [postgres] [mongodb]   start what does not run yet (default: both)
       scripts/services.sh env                       print the URLs, for: eval "$(scripts/services.sh env)"
       scripts/services.sh empty                     make the demo's two databases empty
       scripts/services.sh down                      stop the servers and delete their data
       scripts/services.sh clean                     as down, and delete the downloaded MongoDB server too
TEXT
}

say() { printf 'services: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(dirname "$here")
link=$root/.services
# shellcheck disable=SC2034 # used by the parts
server_user=
state=

for part in folder install server postgres mongodb; do
    # shellcheck source=/dev/null
    . "$here/services/$part.sh"
done

up() {
    local postgres=0 mongodb=0 which
    [ $# -gt 0 ] || set -- postgres mongodb
    for which; do
        case $which in
        postgres) postgres=1 ;;
        mongodb) mongodb=1 ;;
        *) die "unknown server '$which': postgres and mongodb are there" ;;
        esac
    done
    for which in flock python3 setpriv; do
        command -v "$which" >/dev/null || die "$which is missing: install util-linux and python3"
    done
    lock
    choose_user
    [ $postgres = 0 ] || need_postgres
    open_folder
    [ $mongodb = 0 ] || need_mongod
    make_password

    local jobs=() job failed=0
    if [ $postgres = 1 ]; then
        up_postgres v1 & jobs+=($!)
        up_postgres v2 & jobs+=($!)
    fi
    if [ $mongodb = 1 ]; then up_mongodb & jobs+=($!); fi
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
    [ $failed = 0 ] || exit 1
}

print_env() {
    local found=0 port base
    find_folder || die "no servers here: run \`scripts/services.sh up\` first"
    for name in v1 v2; do
        if pid_of "$name" >/dev/null && port=$(port_of "$name" 2>/dev/null); then
            base=postgres://postgres:$(password)@127.0.0.1:$port
            printf "export %s_DATABASE_URL='%s'\n" "${name^^}" "$base/v1v2_demo_$name"
            printf "export V1V2_TEST_%s_URL='%s'\n" "${name^^}" "$base/postgres"
            found=1
        fi
    done
    if pid_of mongodb >/dev/null && port=$(port_of mongodb 2>/dev/null); then
        printf "export V1V2_TEST_MONGODB_URL='mongodb://v1v2:%s@127.0.0.1:%s/?replicaSet=v1v2&authSource=admin'\n" \
            "$(password)" "$port"
        # For the servers that tests start themselves.
        [ ! -d "$memory" ] || printf "export V1V2_TEST_MEMORY='%s'\n" "$memory"
        found=1
    fi
    [ $found = 1 ] || die "no servers run here: run \`scripts/services.sh up\` first"
}

empty() {
    lock
    find_folder || die "no servers here: run \`scripts/services.sh up\` first"
    find_postgres || die "Postgres's programs are gone: run \`scripts/services.sh up\`"
    local name port
    for name in v1 v2; do
        if ! pid_of "$name" >/dev/null; then die "Postgres for $name does not run: run \`scripts/services.sh up\` first"; fi
        port=$(port_of "$name")
        psql_to "$port" postgres -c 'set client_min_messages = warning' -c "drop database if exists v1v2_demo_$name with (force)"
        ensure_database "$port" "v1v2_demo_$name"
    done
}

down() {
    lock
    find_folder || return 0
    local name
    for name in v1 v2 mongodb; do remove "$name"; done
    rm -f "$state/password"
    rm -rf "${memory:?}"
}

clean() {
    down
    [ -n "$state" ] || return 0
    rm -rf "${state:?}"
    rm -rf "$link"
}

command=${1:-}
shift || true
case $command in
up) up "$@" ;;
env) print_env ;;
empty) empty ;;
down) down ;;
clean) clean ;;
-h | --help | help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
