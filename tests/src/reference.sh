#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `make bench` compares with: a boot of the same image in the order and by
# the means of LinuxKit's own init, re-enacted with busybox, runc and ctr. Every
# file is copied into a tmpfs; each device is a modprobe, also where several
# have the same alias; an onboot container is a `runc create` and a `runc start`,
# and ends before the next one; then containerd is started, its socket looked
# for ten times a second, and each service started in its turn.
#
# It is not LinuxKit's init. LinuxKit starts its own Go program, which is a
# client of containerd, once for each of its three stages, and that does all of a
# stage; here ctr, which is such a program, too, is started once for each of the
# three services. What is left out makes this one faster: the files that are
# removed after their copy, mounts of rare filesystems, logs, stale containers.
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
for each in /sys/bus/*/devices/*/modalias; do
	read -r alias <"$each"
	modprobe -abq "$alias"
done
modprobe -q overlay
hwclock -u -s
ip addr add 127.0.0.1/8 dev lo brd + scope host
ip route add 127.0.0.0/8 dev lo scope host
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
	name=${each##*/}
	prepare "$each"
	runc create --bundle "$each" --pid-file /run/pid "$name" </dev/null || continue
	# The file has no end of line, which `read` takes for a failure.
	read -r pid </run/pid || [ -n "$pid" ] || continue
	runc start "$name"
	# This shell is its parent by now, and sees its end when it waits for any.
	while [ -d "/proc/$pid" ]; do usleep 1000; done
	say "onboot $name: done in its turn"
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
while :; do sleep 1000; done
