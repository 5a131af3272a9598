# shellcheck shell=bash
# The MongoDB replica set. Part of scripts/services.sh.
# shellcheck disable=SC2154 # `state`, `here` and `mongod` are set by services.sh and install.sh

# Of a collection that was dropped, MongoDB keeps the files open for minutes. Tests drop thousands, and the server's own
# threads walk along everything that is open: with 30,000 handles they took half of its processor time.
mongodb_files='file_manager=(close_idle_time=5,close_scan_interval=1,close_handle_minimum=100)'

start_mongodb() {
    local dir=$state/mongodb port attempt
    make_folder "$dir"
    if open_memory; then
        make_folder "$memory/mongodb"
        as_server ln -s "$memory/mongodb" "$dir/data"
    else
        as_server mkdir "$dir/data"
    fi
    # Members of a replica set that asks for passwords prove themselves by a shared key, even a single one.
    password | server_file "$dir/key"
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        # --fork returns once the server listens.
        if as_server "$mongod" --fork --dbpath "$dir/data" \
            --logpath "$dir/server.log" --logappend --pidfilepath "$dir/pid" --bind_ip 127.0.0.1 --port "$port" \
            --nounixsocket --replSet v1v2 --keyFile "$dir/key" --wiredTigerCacheSizeGB 0.5 \
            --wiredTigerEngineConfigString "$mongodb_files" \
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
    if [ "${V1V2_SERVICES_DURABLE:-}" = 1 ] && [ -L "$state/mongodb/data" ]; then
        die "MongoDB runs here already, in memory: run \`scripts/services.sh down\` first"
    fi
    if pid_of mongodb >/dev/null && port=$(port_of mongodb 2>/dev/null) &&
        python3 "$here/services/mongodb_replica_set.py" check "$port" 2>/dev/null; then
        return
    fi
    remove mongodb
    start_mongodb
}
