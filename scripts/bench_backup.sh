#!/usr/bin/env bash
# Measures `v1v2 backup create|verify|restore`: time and peak memory (VmHWM of the program itself), for Postgres beside what
# pg_dump and pg_restore take alone with the same options, for MongoDB with the throughput. On throw-away
# databases; those of MongoDB stay until its server is stopped.
#
# Usage: scripts/bench_backup.sh [PEOPLE]      (50000)
# Environment: PROGRAM measures that one instead of building a release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

people=${1:-50000}
stop=yes
if scripts/services.sh env >/dev/null 2>&1; then stop=no; fi
folder=$(mktemp -d)
finish() {
    rm -rf "$folder"
    if [ $stop = yes ]; then scripts/services.sh down; fi
}
trap finish EXIT

program=${PROGRAM:-target/release/v1v2}
[ -n "${PROGRAM:-}" ] || cargo build --quiet --release
scripts/services.sh up
eval "$(scripts/services.sh env)"
name=v1v2_bench_backup_$$

python3 - "$program" "$people" "$folder" "$name" <<'PYTHON'
import os, subprocess, sys, time
from pathlib import Path

program, people, folder, name = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]
program = os.path.abspath(program)
servers = {side: os.environ[f"V1V2_TEST_{side}_URL"] for side in ("V1", "V2", "MONGODB")}


def sql(side, text):
    subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", text, servers[side]], check=True)


def url(side, database):
    head, slash, tail = servers[side].rpartition("/")
    return f"{head}/{database}" + (tail[tail.index("?"):] if "?" in tail else "")


def run(command, environment):
    """Seconds, and MiB of the process's peak."""
    began, peak = time.monotonic(), 0
    log = open(folder / "log", "wb")
    child = subprocess.Popen(command, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log)
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
            peak = max([peak] + [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")])
        except OSError:
            pass
        time.sleep(0.01)
    if child.returncode:
        sys.exit(f"{command[:3]} ended with {child.returncode}:\n" + (folder / "log").read_text())
    return time.monotonic() - began, peak / 1024


def bytes_of(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / (1 << 20)


def newest():
    return max((folder / "backups").iterdir())


def show(what, measured, more=""):
    print(f"  {what:28} {measured[0]:6.1f} s {measured[1]:6.0f} MiB peak  {more}", flush=True)
    return measured[0]


settings = {"V1_DATABASE_URL": url("V1", name), "V1V2_PASSWORDS": "none", "V1V2_BACKUPS": str(folder / "backups"), "RUST_LOG": "error"}
databases = [("V1", name), ("V2", name), ("V2", name + "_b"), ("V2", name + "_c")]
try:
    for side, database in databases:
        sql(side, f"create database {database}")
    for kind, v2, other in (
        ("Postgres", url("V2", name), url("V2", name + "_b")),
        ("MongoDB", url("MONGODB", name), url("MONGODB", name + "_b")),
    ):
        into = {**settings, "V2_DATABASE_URL": v2}
        if kind == "Postgres":
            run([program, "sample", "--people", people], into)
        run([program, "setup"], into)
        run([program, "migrate", "--force", "--skip-validation"], into)
        print(f"{kind}, {people} people", flush=True)
        create = show("backup create (and verify)", run([program, "backup", "create"], into))
        backup = newest()
        verify = show("backup verify", run([program, "backup", "verify", str(backup)], into))
        restore = show("backup restore", run([program, "backup", "restore", str(backup)], {**into, "V2_DATABASE_URL": other}))
        size = bytes_of(backup)
        if kind == "Postgres":
            archive = str(folder / "alone.pgdump")
            dump = show("pg_dump alone", run(["pg_dump", "--format=custom", f"--file={archive}", v2], {}))
            third = url("V2", name + "_c")
            load = show("pg_restore alone", run(["pg_restore", "--single-transaction", f"--dbname={third}", archive], {}))
            print(f"  archive {size:.0f} MiB; create {create / dump:.2f} times pg_dump, restore {restore / load:.2f} times pg_restore")
        else:
            import json
            raw = json.loads((backup / "manifest.json").read_text())["bytes"] / (1 << 20)
            print(f"  {raw:.0f} MiB of BSON, {size:.0f} MiB on disk; create {raw / create:.0f}, verify {raw / verify:.0f}, restore {raw / restore:.0f} MiB/s")
finally:
    for side, database in databases:
        sql(side, f"drop database if exists {database} with (force)")
PYTHON
