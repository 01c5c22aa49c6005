#!/usr/bin/env bash
# usage: hack/timed.sh NAME COMMAND...   Says what runs, and how long it took.
set -uo pipefail
name=$1; shift
echo "==> $name"
start=$SECONDS; rc=0
"$@" || rc=$?
echo "==> $name: $([ $rc = 0 ] && echo ok || echo "failed (exit $rc)") after $((SECONDS - start)) s"
exit $rc
