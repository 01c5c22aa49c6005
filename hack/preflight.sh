#!/bin/bash
# Says in one line what this machine lacks and stops; silent when nothing is missing. Installs nothing.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
missing=()

# at_least HAVE WANT: whether version HAVE is WANT or newer
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

need() { # NAME WANTED-VERSION FOUND-VERSION
	if [ -z "$3" ]; then
		missing+=("$1 $2 or newer is not installed")
	elif ! at_least "$3" "$2"; then
		missing+=("$1 is $3 but must be $2 or newer")
	fi
}

first_number() { grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }

command -v git >/dev/null || missing+=("git is not installed")
command -v make >/dev/null || missing+=("make is not installed")
need Python 3.11 "$(python3 --version 2>/dev/null | first_number)"
# The Go modules themselves say what they need, and so does the crate.
go_wanted=$(awk '$1 == "go" { print $2 }' "$here"/tools/*/go.mod | sort -V | tail -n 1)
need Go "$go_wanted" "$(GOTOOLCHAIN=local go version 2>/dev/null | first_number)"
rust_wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$here/../dataplane/native/Cargo.toml" 2>/dev/null)
need "Rust (cargo)" "${rust_wanted:-1.85}" "$(cargo --version 2>/dev/null | first_number)"

if ! timeout 15 docker info >/dev/null 2>&1; then
	# The cluster will be the embedded one.
	if [ "$(uname -s)" != Linux ] || ! grep -q '^ID=debian' /etc/os-release 2>/dev/null || ! grep -q '^VERSION_ID="1[2-9]' /etc/os-release; then
		missing+=("no Docker engine answers, and without one this must be Debian 12")
	elif [ "$(id -u)" -ne 0 ]; then
		missing+=("no Docker engine answers, and without one this must run as root")
	fi
fi

if [ ${#missing[@]} -gt 0 ]; then
	line=$(printf '; %s' "${missing[@]}")
	echo "missing: ${line:2}" >&2
	exit 1
fi
