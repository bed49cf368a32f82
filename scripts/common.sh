# Sourced by the other scripts: where things are, and how they speak. Needs bash.
# shellcheck shell=bash
set -Eeuo pipefail
trap 'echo "${0##*/}: line $LINENO: \`$BASH_COMMAND\` failed" >&2' ERR
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is downloaded or built once lives here, outside the source tree.
CACHE=${WASMWIZ_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wasmwiz}
export ROOT CACHE

say() { echo "$*" >&2; }
die() {
    echo "${0##*/}: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# Sixteen hexadecimal digits that change when a byte of the input does.
key_of() { sha256sum | cut -c1-16; }
# Holds the lock file NAME.lock of the cache until the script ends; says so when it has to wait.
lock() {
    mkdir -p "$CACHE" || die "cannot make the cache folder $CACHE (WASMWIZ_CACHE chooses another)"
    exec 9>"$CACHE/$1.lock"
    flock -n 9 || { say "waiting for another $1 to end" && flock 9; }
}
# The Python environment of the tests; its name changes with what it must hold.
venv_dir() { echo "$CACHE/venv-$(cat "$ROOT"/tests/requirements.txt "$ROOT"/tests/guests/requirements.txt | key_of)"; }
# The folder with AssemblyScript's node_modules.
assemblyscript_dir() { echo "$CACHE/assemblyscript-$(key_of <"$ROOT/tests/guests/assemblyscript/package-lock.json")"; }
# The folder of h2spec, a program that tests servers of HTTP/2.
h2spec_dir() { echo "$CACHE/h2spec-2.2.1"; }
# A Go that knows GOOS=wasip1 (1.21 or newer); nothing and false where there is none.
find_go() {
    local go version
    for go in "$(command -v go || true)" /usr/lib/go-*/bin/go; do
        [ -x "$go" ] || continue
        version=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || continue
        version=${version#go1.}
        [ "${version%%[!0-9]*}" -ge 21 ] 2>/dev/null && echo "$go" && return
    done
    return 1
}
