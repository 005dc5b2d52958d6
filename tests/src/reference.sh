#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `make bench` compares with: a boot of the same image in the order and by
# the means of LinuxKit's own init, re-enacted with busybox, runc and ctr. Every
# file is copied into a tmpfs; each device alias is a modprobe; the onboot
# containers run by runc, one after the other; then containerd is started, its
# socket looked for ten times a second, and each service started in its turn.
# It is not LinuxKit's init, and where the two differ this one does less.
say() {
	read -r up rest </proc/uptime
	echo "reference: [ $up] $*"
}

if [ "$1" != copied ]; then
	mkdir /.root
	mount -t tmpfs -o size=80% tmpfs /.root
	for each in /*; do
		[ "$each" = /proc ] || [ "$each" = /sys ] || cp -a "$each" /.root
	done
	mkdir /.root/proc /.root/sys
	cd /.root || exit 1
	mount -o move . /
	exec chroot . /init copied
fi

mount -t proc proc /proc
for each in run tmp var; do mount -t tmpfs tmpfs /$each; done
mkdir -p /var/lib /var/log /run/runc
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
exec >/dev/console 2>&1
say root and mounts: done

mdev -s
find /sys/devices -name modalias -exec cat {} + | sort -u | while read -r alias; do
	modprobe -q -b "$alias"
done
modprobe -q overlay
hwclock -u -s
ip link set lo up
say devices: done

# A container's root filesystem, as the image builder's runtime.json wants it.
prepare() {
	mkdir -p "$1/tmp" "$1/rootfs"
	lower=$(sed -n 's/.*"lowerdir=\([^"]*\)".*/\1/p' "$1/runtime.json")
	[ -n "$lower" ] || return 0
	mount -t tmpfs tmpfs "$1/tmp"
	mkdir "$1/tmp/upper" "$1/tmp/work"
	mount -t overlay -o "lowerdir=$lower,upperdir=$1/tmp/upper,workdir=$1/tmp/work" overlay "$1/rootfs"
}

for each in /containers/onboot/*; do
	prepare "$each"
	runc run --bundle "$each" "${each##*/}" </dev/null &&
		say "onboot ${each##*/}: done in its turn"
done

containerd >/var/log/containerd.log 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do usleep 100000; done
say 'containerd: socket ready in its turn'

for each in /containers/services/*; do
	prepare "$each"
	sed "s|\"path\": *\"rootfs\"|\"path\": \"$each/rootfs\"|" "$each/config.json" >"/run/${each##*/}.json"
	ctr -n services.linuxkit run --detach --null-io --config "/run/${each##*/}.json" "${each##*/}" &&
		say "service ${each##*/}: running"
done
ctr --version >/dev/null
say 'ctr: started once more, for nothing'
while :; do sleep 1000; done
