#!/bin/sh
# Process 1 of a test cluster's node: runs in new mount, process and host name namespaces, inside the
# node's network namespace, and gives the node a file system of its own. When it ends, the node has crashed.
#   node-init.sh NAME DISK PROGRAM...
# DISK keeps what a machine's disk would: etc, opt, var. PROGRAMs are found in /opt/kube afterwards.
set -eu
name=$1
disk=$2
shift 2

hostname "$name"
# containers that ask for it see what is mounted later
mount --make-rshared /
mount --no-mtab -t proc proc /proc

# The machine's own files with the node's changes on top
for dir in etc opt; do
  mkdir -p "$disk/$dir" "$disk/.$dir"
  mount --no-mtab -t overlay overlay \
    -o "lowerdir=/$dir,upperdir=$disk/$dir,workdir=$disk/.$dir" "/$dir"
done
mkdir -p /opt/kube
for program in "$@"; do
  : >>"/opt/kube/${program##*/}"
  mount --no-mtab --bind "$program" "/opt/kube/${program##*/}"
done

# The kubelet sets these for the whole machine unless it finds them set as it wants them
tuned=$(mktemp -d "$disk/.tuned-XXXXXX")
while read -r value key; do
  [ -e "/proc/sys/$key" ] || continue
  file=$tuned/${key##*/}
  echo "$value" >"$file"
  mount --no-mtab --bind "$file" "/proc/sys/$key"
done <<END
1 vm/overcommit_memory
0 vm/panic_on_oom
10 kernel/panic
1 kernel/panic_on_oops
1000000 kernel/keys/root_maxkeys
25000000 kernel/keys/root_maxbytes
END

mkdir -p "$disk/var/lib/kubelet" "$disk/var/lib/containerd" "$disk/var/lib/cni" \
  "$disk/var/log/pods" "$disk/var/log/containers" "$disk/var/tmp"
[ -e "$disk/var/run" ] || ln -s /run "$disk/var/run"
mount --no-mtab --bind "$disk/var" /var
mount --no-mtab -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
echo "node is up"

# Reaps what loses its parent, as any process 1 must; dash does while it waits for a child
trap : INT TERM HUP
while :; do
  sleep 3600 || true
done
