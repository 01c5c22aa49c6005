#!/bin/bash
# Builds the command-line tools and servers that are not in Debian (or too old there) from the Go module proxy.
#
#   hack/tools.sh path NAME      prints the path of a binary, building its group first if it is missing
#   hack/tools.sh build GROUP..  builds groups: kubernetes (the servers), kubectl, helm, coredns, kind, kwok,
#                                flux, livekit
#   hack/tools.sh dir GROUP      prints where a group is or would be
#
# A group lives in <cache>/bin/<group>-<version>-<hash of go.mod and go.sum>/ and appears there by one rename, so
# two clones share one build and a build that was interrupted leaves nothing that looks finished. Progress goes to
# stderr, the path to stdout. Each project is a module of its own, so that no tool's dependencies bend another's;
# kubectl is apart from the servers because a machine that uses kind needs it alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/auralink/bin

# The module whose version names a group.
module_of() {
	case $1 in
	kubernetes | kubectl) echo k8s.io/kubernetes ;;
	helm) echo helm.sh/helm/v3 ;;
	coredns) echo github.com/coredns/coredns ;;
	kind) echo sigs.k8s.io/kind ;;
	kwok) echo sigs.k8s.io/kwok ;;
	flux) echo github.com/fluxcd/source-controller ;;
	livekit) echo github.com/livekit/livekit-server ;;
	*)
		echo "tools.sh: no such tool: $1" >&2
		return 2
		;;
	esac
}

group_of() {
	case $1 in
	kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy) echo kubernetes ;;
	source-controller | kustomize-controller) echo flux ;;
	livekit-server) echo livekit ;;
	*) module_of "$1" >/dev/null && echo "$1" ;;
	esac
}

folder_of() {
	case $1 in
	kubectl) echo "$here/tools/kubernetes" ;;
	*) echo "$here/tools/$1" ;;
	esac
}

packages_of() {
	case $1 in
	kubernetes) printf 'k8s.io/kubernetes/cmd/%s\n' kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy ;;
	kubectl) echo k8s.io/kubernetes/cmd/kubectl ;;
	*) echo tool ;;
	esac
}

version_of() {
	local module
	module=$(module_of "$1")
	awk -v module="$module" '$1 == "require" { $1 = ""; $0 = $0 } $1 == module && $2 ~ /^v/ { print $2; exit }' "$(folder_of "$1")/go.mod"
}

dir_of() {
	local hash version
	version=$(version_of "$1")
	hash=$(cat "$(folder_of "$1")"/go.{mod,sum} | sha256sum | cut -c1-10)
	echo "$cache/$1-$version-$hash"
}

# Versions are stamped in where the tool prints or checks its own.
ldflags_of() {
	local version=$2
	case $1 in
	kubernetes | kubectl) echo "-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")" ;;
	helm) echo "-s -w -X helm.sh/helm/v3/internal/version.version=$version" ;;
	*) echo "-s -w" ;;
	esac
}

# Flux's controllers come without their kinds: these are in the modules they are built from.
crds_of_flux() {
	local module
	cd "$here/tools/flux"
	for module in source-controller kustomize-controller; do
		for crd in "$(go list -m -f '{{.Dir}}' "github.com/fluxcd/$module")"/config/crd/bases/*.yaml; do
			echo ---
			cat "$crd"
		done
	done
}

build() {
	local group=$1 dir version tmp started pid
	dir=$(dir_of "$group")
	[ -d "$dir" ] && return
	mkdir -p "$cache"
	exec 9>"$cache/.$group.lock"
	flock 9
	[ -d "$dir" ] && return # somebody else built it while we waited
	version=$(version_of "$group")
	rm -rf "$cache/.$group."?????? # what a killed build left
	tmp=$(mktemp -d "$cache/.$group.XXXXXX")
	# shellcheck disable=SC2064 # the path is meant to be expanded now
	trap "rm -rf '$tmp'" EXIT
	started=$SECONDS
	echo "tools: building $group $version (once; kept in $cache)" >&2
	(
		cd "$(folder_of "$group")"
		mapfile -t packages < <(packages_of "$group")
		CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS='-mod=readonly -buildvcs=false' \
			exec go build -trimpath -ldflags "$(ldflags_of "$group" "$version")" -o "$tmp/" "${packages[@]}"
	) 9>&- &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		local waited=$((SECONDS - started))
		if [ "$waited" -gt 0 ] && [ $((waited % 20)) -eq 0 ]; then echo "tools: $group: $waited s" >&2; fi
		sleep 1
	done
	wait "$pid" || {
		echo "tools: building $group failed after $((SECONDS - started)) s" >&2
		return 1
	}
	if [ "$group" = flux ]; then crds_of_flux >"$tmp/crds.yaml"; fi
	if [ "$group" = livekit ]; then mv "$tmp/server" "$tmp/livekit-server"; fi # its main package has no better name
	chmod 755 "$tmp"
	mv -T "$tmp" "$dir"
	trap - EXIT
	echo "tools: $group $version built in $((SECONDS - started)) s" >&2
	# The two newest builds of a group stay; older ones are of no use to anybody.
	find "$cache" -maxdepth 1 -type d -name "$group-*" -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- |
		xargs -r -d '\n' rm -rf
}

case ${1:-} in
path)
	group=$(group_of "${2:?name of a binary}")
	(build "$group")
	echo "$(dir_of "$group")/$2"
	;;
dir) dir_of "${2:?name of a group}" ;;
build)
	shift
	for group in "${@:?groups}"; do (build "$group"); done
	;;
*)
	sed -n '2,8s/^# \?//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
