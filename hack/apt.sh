#!/bin/bash
# Installs the Debian packages that a group needs and the machine lacks; silent and instant when nothing is missing.
#
#   hack/apt.sh GROUP...     cluster | images | build | oracles | services | bench-media
#
# Where there is no apt (a Mac, another distribution) it does nothing: those systems use Docker with kind.
set -euo pipefail

packages_of() {
	case $1 in
	cluster) echo containerd runc etcd-server containernetworking-plugins conntrack iptables socat iproute2 openssl gcc libc6-dev ;;
	images) echo buildah debootstrap ca-certificates ;;
	build) echo gcc libc6-dev pkg-config libx264-dev libvpx-dev libx265-dev libaom-dev openssl ;;
	oracles) echo tshark gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad} ;;
	services) echo redis-server redis-sentinel postgresql openssl ;;
	bench-media) echo rtpengine-daemon ;;
	*)
		echo "apt.sh: no such group: $1 (cluster, images, build, oracles, services, bench-media)" >&2
		return 2
		;;
	esac
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || exit 0

missing=()
for group in "${@:?groups}"; do
	packages=$(packages_of "$group")
	for package in $packages; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
		installed) ;;
		*) missing+=("$package") ;;
		esac
	done
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "apt.sh: as root, once: apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "apt: installing ${missing[*]}" >&2

# Debian starts a service as soon as its package is there; we start our own, with our own folders. A policy that the
# machine already has stays, and ours goes away again.
exec 8>/run/auralink-apt.lock
flock 8
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi

log=$(mktemp)
install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
		-o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 "${missing[@]}" >"$log" 2>&1
}
# The lists may be fresh enough; a mirror may be briefly unwell.
for attempt in 1 2 3; do
	if [ "$attempt" -gt 1 ] || [ -z "$(ls -A /var/lib/apt/lists 2>/dev/null)" ]; then
		apt-get update -q -o Acquire::Retries=5 >"$log" 2>&1 || true
	fi
	if install; then
		rm -f "$log"
		exit 0
	fi
	sleep $((attempt * 2))
done
echo "apt.sh: apt-get install ${missing[*]} failed:" >&2
tail -n 15 "$log" >&2
exit 1
