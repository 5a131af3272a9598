# shellcheck shell=bash
# Where the throw-away servers keep their data, and as whom they run. Part of scripts/services.sh.
# shellcheck disable=SC2154 # `link`, `root` and `server_user` are set by services.sh

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

# The name of this checkout's folder outside of it. The path in the name makes a deleted and repeated checkout find, and
# clean up, what its predecessor left.
outside_name() {
    printf 'v1v2-services-%s' "$(printf %s "$root" | sha256sum | cut -c 1-12)"
}

# Whether a folder of ours is there, made now or before. -O: a folder that somebody else prepared in a shared /tmp is not
# ours to trust.
own_folder() {
    mkdir -m 0711 "$1" 2>/dev/null || { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; }
}

# Sets `state`: `.services/` itself, or, where the servers' user cannot get there (a checkout below /root, say), a
# folder named after the checkout's path to which `.services` is then a link.
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
    name=$(outside_name)
    for base in /var/lib /var/tmp /tmp; do
        own_folder "$base/$name" || continue
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

# What is thrown away anyway may be in memory, where there is plenty of it (a container's /dev/shm has 64 MB). MongoDB
# waits for the disk at every collection and index that it makes, and nothing turns that off: with 50 ms for each
# of these, the fail point tests made a tenth of their 9,000 files in seven minutes; in memory all of them take two.
memory=/dev/shm/$(outside_name)

# Makes the folder in memory; fails where there is none. Benchmarks wait for the disk.
open_memory() {
    [ "${V1V2_SERVICES_DURABLE:-0}" != 1 ] || return 1
    local free
    free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    [ "${free:-0}" -ge $((4 << 20)) ] || return 1
    free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
    [ "${free:-0}" -ge $((8 << 20)) ] || return 1
    own_folder "$memory" && server_can_write "$memory"
}

# One `up` or `down` at a time. The lock is on the checkout's own folder, so no file is needed that `down` would
# have to leave behind.
lock() {
    exec 9<"$root"
    flock --wait 600 9 || die "another services.sh has been at work in $root for 10 minutes: end it and try again"
}
