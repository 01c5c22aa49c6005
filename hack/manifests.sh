#!/bin/bash
# Renders the chart into plain manifests, for those who do without Helm: build/manifests/crds.yaml and install.yaml.
#
#   hack/manifests.sh [--to FOLDER] [--namespace NAME] [what `helm template` takes, such as --set operator.image=...]
#
# `make manifests` calls it. Hooks (`helm test`) are left out, for only Helm runs them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

to=build/manifests namespace=auralink-system
while [ $# -gt 0 ]; do
	case $1 in
	--to) to=$2 && shift 2 ;;
	--namespace) namespace=$2 && shift 2 ;;
	*) break ;;
	esac
done

helm=$(hack/tools.sh path helm)
# The oldest version that the chart is for: without a cluster Helm does not know any.
oldest=$(sed -n 's/^kubeVersion: ">=\([0-9.]*\).*/\1/p' charts/auralink/Chart.yaml)
render() { "$helm" template auralink charts/auralink --namespace "$namespace" --kube-version "$oldest" --no-hooks "$@"; }

mkdir -p "$to"
crds=()
for file in charts/auralink/templates/crds/*.yaml; do crds+=(--show-only "${file#charts/auralink/}"); done
render "${crds[@]}" >"$to/crds.yaml.part"
{
	cat <<-YAML
		---
		apiVersion: v1
		kind: Namespace
		metadata:
		  name: $namespace
		  labels:
		    pod-security.kubernetes.io/enforce: restricted
	YAML
	render --set crds.install=false "$@"
} >"$to/install.yaml.part"
for file in crds install; do mv "$to/$file.yaml.part" "$to/$file.yaml"; done
echo "$to/crds.yaml $to/install.yaml"
