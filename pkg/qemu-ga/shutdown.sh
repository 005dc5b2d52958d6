#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What qemu-ga calls when the host asks for a shutdown: `shutdown -h -P +0 TEXT`
# to switch off, -H to halt, -r to reboot. PID 1 is the machine's own, for the
# container shares its PIDs. It has no signal for a halt; a host that waits for
# the machine to end is served by switching off.
for word; do
	case $word in
	-r) exec kill -INT 1 ;;
	-P | -H) exec kill -USR1 1 ;;
	esac
done
echo "shutdown: neither -P, -H nor -r in: $*" >&2
exit 1
