# shellcheck shell=bash
# The two Postgres clusters. Part of scripts/services.sh.
# shellcheck disable=SC2154 # `state` and `pg_bin` are set by services.sh and install.sh

psql_to() {
    local port=$1 database=$2
    shift 2
    env -i PATH="$PATH" PGPASSWORD="$(password)" PGCONNECT_TIMEOUT=10 "$pg_bin/psql" -XqAt -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$port" -U postgres -d "$database" "$@" </dev/null
}

# The demo's database is part of "up"; whoever drops it (the demo does) may be killed before making it again.
ensure_database() {
    local port=$1 name=$2
    [ "$(psql_to "$port" postgres -c "select 1 from pg_database where datname = '$name'")" = 1 ] ||
        psql_to "$port" postgres -c "create database $name"
}

set_durability() {
    local port=$1 value=$2 setting
    for setting in fsync synchronous_commit full_page_writes; do
        psql_to "$port" postgres -c "alter system set $setting = $value" || return 1
    done
    psql_to "$port" postgres -c 'select pg_reload_conf()' >/dev/null
}

# Everything that could flatter a benchmark stays as Postgres ships it (wal_level, autovacuum, checkpoint_timeout).
# Memory is set for a machine of a few GB that runs two clusters; connections for tests on many cores; max_wal_size so
# that no checkpoint falls into a test.
postgres_config() {
    local sockets=$1
    # A socket's path must be shorter than 108 bytes; without one, TCP does.
    if [[ ${#sockets} -gt 85 || $sockets =~ [^A-Za-z0-9_./-] ]]; then sockets=; fi
    cat <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$sockets'
max_connections = 400
shared_buffers = 256MB
max_wal_size = 4GB
log_line_prefix = '%m [%p] %q%u@%d '
CONF
}

# V1 sorts text the way people do, V2 by bytes, as two real servers may well differ: a missing COLLATE "C" in a merge
# of both sides then fails a test, and not a user's migration.
postgres_locale() {
    local flags=(--encoding=UTF8 --locale=C.UTF-8)
    if [ "$1" = v1 ] && [[ $("$pg_bin/initdb" --help) == *--icu-locale* ]]; then
        flags+=(--locale-provider=icu --icu-locale=en-US)
    fi
    printf '%s\n' "${flags[@]}"
}

start_postgres() {
    local name=$1 dir=$state/$1 port attempt locale
    make_folder "$dir"
    mapfile -t locale < <(postgres_locale "$name")
    password | server_file "$dir/superuser"
    as_server "$pg_bin/initdb" --pgdata="$dir/data" --username=postgres --auth=scram-sha-256 --pwfile="$dir/superuser" \
        --no-sync --no-instructions "${locale[@]}" </dev/null 2>&1 | server_file "$dir/server.log" || {
        as_server cat "$dir/server.log" >&2
        die "initdb failed for $name: its words are above"
    }
    rm -f "$dir/superuser"
    postgres_config "$dir" | as_server tee -a "$dir/data/postgresql.conf" >/dev/null

    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        if as_server "$pg_bin/pg_ctl" --pgdata="$dir/data" --log="$dir/server.log" --silent --wait --timeout=120 \
            --options="-p $port" start </dev/null >/dev/null 2>&1; then
            local durable=off
            [ "${V1V2_SERVICES_DURABLE:-0}" = 1 ] && durable=on
            set_durability "$port" "$durable"
            ensure_database "$port" "v1v2_demo_$name"
            mark_up "$name" "$port"
            return
        fi
        # Only a port that was taken since we asked is worth another attempt.
        [[ $(as_server tail -n 5 "$dir/server.log") == *'could not create any TCP'* ]] || break
    done
    as_server tail -n 20 "$dir/server.log" >&2
    die "Postgres for $name does not start (attempt $attempt): its last words are above"
}

up_postgres() {
    local name=$1 port
    if pid_of "$name" >/dev/null && port=$(port_of "$name" 2>/dev/null) &&
        ensure_database "$port" "v1v2_demo_$name" 2>/dev/null; then
        case ${V1V2_SERVICES_DURABLE:-} in
        1) set_durability "$port" on ;;
        0) set_durability "$port" off ;;
        esac
        return
    fi
    remove "$name"
    start_postgres "$name"
}
