#!/bin/sh
# Process 1 of a lab's sandbox: runs inside fresh network, mount and process namespaces, prepares
# /proc and /run for `ip netns` and iptables, then runs the lab. When it ends, everything ends.
#   sandbox-init.sh STATE_DIR COMMAND [ARGUMENT...]
set -eu
state=$1
shift

# /proc is still the caller's here, so this is our number as the caller sees it
read -r outer_pid _ </proc/self/stat
mount --no-mtab -t proc proc /proc

# A private /run in which the state directory keeps its path, wherever that is
resolv=$(readlink -f /etc/resolv.conf || true)
stage=$state/.run
mkdir -p "$stage"
mount --no-mtab -t tmpfs -o mode=755 tmpfs "$stage"
mkdir -p "$stage/netns" "$stage/lock"
case "$state/" in
  /run/*)
    mkdir -p "$stage${state#/run}"
    mount --no-mtab --bind "$state" "$stage${state#/run}"
    ;;
esac
mount --no-mtab --move "$stage" /run
# resolv.conf may point into the /run that is now hidden
case "$resolv" in
  /run/*)
    mkdir -p "$(dirname "$resolv")"
    : >"$resolv"
    ;;
esac

ip link set lo up
AMBIT_SANDBOX_PID=$outer_pid
AMBIT_SANDBOX_STATE=$state
export AMBIT_SANDBOX_PID AMBIT_SANDBOX_STATE
# the lab handles signals; this shell only has to outlive it
trap : INT TERM HUP
code=0
"$@" || code=$?
exit "$code"
