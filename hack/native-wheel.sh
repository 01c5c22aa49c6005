#!/bin/bash
# Puts the wheel of the Rust crate into build/wheels/, alone of its kind; builds it only when the crate has changed.
# Called by the Makefile (for the virtual environment) and by hack.images (for the data plane's image).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
crate=dataplane/native
cache=${XDG_CACHE_HOME:-$HOME/.cache}/auralink/wheels
maturin=$root/.venv/bin/maturin
cd "$root"

# Names and contents of what git sees of the crate, the compiler and the machine.
key=$({
	rustc --version
	uname -sm
	git ls-files -z --cached --others --exclude-standard -- "$crate" | sort -z -u |
		while IFS= read -r -d '' file; do [ -f "$file" ] && sha256sum "$file"; done
} | sha256sum | cut -c1-12)
dir=$cache/$key

mkdir -p "$cache" build/wheels
exec 9>"$cache/.lock"
flock 9
if [ ! -d "$dir" ]; then
	if [ ! -x "$maturin" ]; then
		echo "native-wheel.sh: $maturin is missing: make deps" >&2
		exit 1
	fi
	started=$SECONDS
	echo "native: building the wheel" >&2
	rm -rf "$cache"/.build.* # what a killed build left
	tmp=$(mktemp -d "$cache/.build.XXXXXX")
	log=$tmp.log
	trap 'rm -rf "$tmp" "$log"' EXIT
	"$maturin" build --quiet --release --locked --manifest-path "$crate/Cargo.toml" --out "$tmp" >"$log" 2>&1 9>&- || {
		cat "$log" >&2
		exit 1
	}
	mv -T "$tmp" "$dir"
	chmod 755 "$dir"
	echo "native: wheel built in $((SECONDS - started)) s" >&2
	find "$cache" -maxdepth 1 -mindepth 1 -type d -name '[0-9a-f]*' -printf '%T@ %p\n' | sort -rn | tail -n +6 | cut -d' ' -f2- |
		xargs -r -d '\n' rm -rf
fi
touch "$dir"
for wheel in "$dir"/auralink_native-*.whl; do
	find build/wheels -name 'auralink_native-*.whl' ! -name "${wheel##*/}" -delete
	cmp -s "$wheel" "build/wheels/${wheel##*/}" || cp "$wheel" build/wheels/
done
