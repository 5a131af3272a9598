# shellcheck shell=bash
# What every server has in common: is it there, its files, its end. Part of scripts/services.sh.
# shellcheck disable=SC2154 # `state`, `memory` and `server_user` are set by services.sh and folder.sh

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
    rm -rf "${state:?}/$1" "$state/$1.port" "${memory:?}/$1" 2>/dev/null ||
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
    mkdir -m 0700 "$1"
    if [ -n "$server_user" ]; then chown "$server_user:$(id -g "$server_user")" "$1"; fi
}

# A file that the server's user alone may read, from standard input.
server_file() {
    (umask 077 && as_server tee "$1" >/dev/null)
}
