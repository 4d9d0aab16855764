#!/bin/sh
# Becomes the init of a machine that is made of namespaces: boot.sh ROOT. ROOT holds what the machine keeps
# (etc, var, root, usr/local); /usr is this machine's own, so that what was built here finds its libraries.
# Called in fresh mount, pid, cgroup, ipc and uts namespaces.
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
local=$root/usr-local
mount --bind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
mount --bind "$local" "$root/usr/local"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
# every boot is one of its own
mkdir "$root/run/host"
cat /proc/sys/kernel/random/uuid >"$root/run/host/boot_id"
mount --bind "$root/run/host/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount --bind "$root/run/host/boot_id" "$root/proc/sys/kernel/random/boot_id"
cd "$root"
pivot_root . .
umount -l .
exec env -i container=updagent-test PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd
