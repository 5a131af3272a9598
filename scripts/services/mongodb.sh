# shellcheck shell=bash
# The MongoDB replica set. Part of scripts/services.sh.
# shellcheck disable=SC2154 # `state`, `here` and `mongod` are set by services.sh and install.sh

start_mongodb() {
    local dir=$state/mongodb port attempt
    make_folder mongodb
    as_server mkdir "$dir/data"
    # Members of a replica set that asks for passwords prove themselves by a shared key, even a single one.
    password | server_file "$dir/key"
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        # --fork returns once the server listens.
        if as_server "$mongod" --fork --dbpath "$dir/data" \
            --logpath "$dir/server.log" --logappend --pidfilepath "$dir/pid" --bind_ip 127.0.0.1 --port "$port" \
            --nounixsocket --replSet v1v2 --keyFile "$dir/key" --wiredTigerCacheSizeGB 0.5 \
            --setParameter diagnosticDataCollectionEnabled=false </dev/null >/dev/null 2>&1; then
            python3 "$here/services/mongodb_replica_set.py" create "$port" <"$state/password" || break
            mark_up mongodb "$port"
            return
        fi
        [[ $(as_server tail -n 20 "$dir/server.log") == *'Address already in use'* ]] || break
    done
    as_server tail -n 5 "$dir/server.log" >&2
    die "MongoDB does not start (attempt $attempt): its last words are above"
}

up_mongodb() {
    local port
    if pid_of mongodb >/dev/null && port=$(port_of mongodb 2>/dev/null) &&
        python3 "$here/services/mongodb_replica_set.py" check "$port" 2>/dev/null; then
        return
    fi
    remove mongodb
    start_mongodb
}
