#!/usr/bin/env bash
# The whole main job before a newcomer's eyes: an old database with 2,000 people becomes a new one, in throw-away
# servers, without a question. Every command is shown as it would be typed. Run it again and it starts over.
# TARGET=mongodb makes V2 a MongoDB.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
services=$root/scripts/services.sh

# What a user has set for a migration of their own must not steer the demo, and least of all its URLs.
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(V1|V2|V1V2)_' | grep -v '^V1V2_\(PG_BIN\|MONGOD\|SERVICES_\)')

echo "Starting throw-away servers (the first time, this may install Postgres and download MongoDB's server) ..."
"$services" up
"$services" empty
eval "$("$services" env)"
target=${TARGET:-postgres}
clean=()
case $target in
postgres) ;;
mongodb)
    export V2_DATABASE_URL=${V1V2_TEST_MONGODB_URL/\/\?/\/v1v2_demo_v2\?}
    # An earlier demo's documents; Postgres' were emptied above.
    clean=(--clean)
    ;;
*)
    echo "TARGET is postgres or mongodb, not $target" >&2
    exit 2
    ;;
esac

echo "Building v1v2 ..."
# The dev profile: from an empty target folder it builds several times faster than release, and hashing, the one thing
# that would be slow in it, is optimised there as well. Cargo says where the program is, wherever the target folder may be.
v1v2=$(cd "$root" && cargo build --bin v1v2 --message-format=json-render-diagnostics </dev/null |
    python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])')

# Key, log and settings of the demo live and die with it. The empty .env ends the search for one in the folders above.
demo=$root/.services/demo
rm -rf "$demo"
mkdir -m 0700 "$demo"
(umask 077 && : >"$demo/.env")
cd "$demo"
export V1V2_KEY_FILE=$demo/v1v2.key V1V2_LOG_FILE=$demo/migration.log

show() {
    printf '\n$ v1v2 %s\n' "$*"
    "$v1v2" "$@" </dev/null
}

show sample --people 2000 --seed 1
show setup "${clean[@]}" --force
show check # after `setup`: it compiles the definitions against V2's tables, too
rejected=0
show migrate --force || rejected=$?
# Exit code 3 says: finished, and some rows were rejected with a reason. The rest of the demo is worth seeing then.
[ $rejected = 0 ] || [ $rejected = 3 ] || exit $rejected
show validate --compare-counts
show status

look_at_postgres() {
    cat <<'TEXT'
  eval "$(scripts/services.sh env)"
  psql "$V1_DATABASE_URL" -c 'select name, email, phone from "Teacher" limit 10'
  psql "$V2_DATABASE_URL" -c 'select "firstName", "lastName", email, phone from "User" limit 10'
  psql "$V2_DATABASE_URL" -c 'select entity, outcome, count(*) from v1v2.ledger group by 1, 2 order by 1, 2'
TEXT
}

# mongosh is MongoDB's own shell; the demo does not need it, so it does not install it.
look_at_mongodb() {
    cat <<TEXT
  eval "\$(scripts/services.sh env)"
  psql "\$V1_DATABASE_URL" -c 'select name, email, phone from "Teacher" limit 10'
  mongosh '$V2_DATABASE_URL' --eval 'db.users.findOne({"roles.1": {\$exists: true}})'
  mongosh '$V2_DATABASE_URL' --eval 'db.v1v2_ledger.aggregate([{\$group: {_id: {entity: "\$_id.e", outcome: "\$outcome"}, rows: {\$sum: 1}}}])'
TEXT
}

cat <<TEXT

Done. A V1 with 2,000 people was generated, its new home V2 was set up, every row was migrated in one
pass, and V2 was compared with V1.$([ $rejected = 0 ] || printf ' Some rows were rejected: see the report above.')

Look around (both databases run until you stop them):
$("look_at_$target")
Log and key of this run: .services/demo/
Start over: make demo        MongoDB as V2: make demo TARGET=mongodb
Stop the servers and delete everything: make clean-services
TEXT
