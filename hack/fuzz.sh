#!/bin/bash
# Lets libFuzzer seek what breaks the packet core: every target of dataplane/native/fuzz, or those named.
#
#   hack/fuzz.sh [TARGET..]      FUZZ_SECONDS for each, 600 unless said
#
# Starts from the seeds in the repository and what earlier runs found (build/fuzz/corpus). An input that breaks a target
# ends the run and lies in build/fuzz/found; `cargo-fuzz` is installed into the cache once. No sanitizer: the crate denies
# unsafe code, and without one twice as many inputs are tried.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=0.13.2
tool=${XDG_CACHE_HOME:-$HOME/.cache}/auralink/bin/cargo-fuzz-$version
crate=$root/dataplane/native/fuzz
most_bytes=4096

if [ ! -x "$tool/bin/cargo-fuzz" ]; then
	echo "cargo-fuzz $version: installing" >&2
	mkdir -p "${tool%/*}"
	tmp=$(mktemp -d "$tool.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	cargo install --quiet --locked --root "$tmp" "cargo-fuzz@$version"
	chmod 755 "$tmp"
	mv -T "$tmp" "$tool"
fi
export PATH=$tool/bin:$PATH
export RUSTC_BOOTSTRAP=1 # coverage instrumentation, which the stable compiler has and keeps behind this

[ $# -gt 0 ] || set -- $(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$crate/Cargo.toml")
cd "$crate"
for target; do
	corpus=$root/build/fuzz/corpus/$target
	mkdir -p "$corpus" "$root/build/fuzz/found"
	echo "==> $target, ${FUZZ_SECONDS:-600} s"
	cargo fuzz run --sanitizer none --fuzz-dir "$crate" "$target" "$corpus" "$crate/seeds/$target" -- \
		-max_total_time="${FUZZ_SECONDS:-600}" -max_len=$most_bytes -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
		-print_final_stats=1 -artifact_prefix="$root/build/fuzz/found/$target-"
done
