#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Keeps a getty on every console= of the kernel's command line.
#   INSECURE=true   a root shell on each of them, without a login
#   INITGETTY=true  as a script of /etc/init.d: leave the gettys behind
# Root's password is that of the image's /etc/getty.shadow, if there is one.

# Where the label of this image has the root's /etc.
shadow=/hostroot/etc/getty.shadow
securetty=/etc/securetty

# keep ARGUMENTS: a getty, started again for ever.
keep() {
	while :; do
		begin=$(date +%s)
		if [ "$INSECURE" = true ]; then
			getty -n -l /usr/libexec/getty/autologin "$@"
		else
			getty "$@"
		fi
		# One whose terminal is gone ends at once: do not spin.
		[ $(($(date +%s) - begin)) -gt 1 ] || sleep 2
	done
}

# console NAME[,OPTIONS]: a getty there. OPTIONS begin with the speed.
console() {
	tty=${1%%,*}
	speed=
	case $1 in *,*) speed=${1#*,} speed=${speed%%[!0-9]*} ;; esac
	case " $seen " in *" $tty "*) return ;; esac
	seen="$seen $tty"
	case $tty in '' | null | ttynull | *..*) return ;; esac
	if [ ! -c "/dev/$tty" ]; then
		echo "getty: console=$tty: /dev/$tty is no character device; no getty there"
		return
	fi
	case $tty in
	# No modem is asked for its carrier.
	ttyS* | ttyAMA* | ttyUSB* | ttyMFD*) set -- -L "${speed:-115200}" "$tty" vt100 ;;
	tty[0-9]*) set -- 38400 "$tty" linux ;;
	*) set -- "${speed:-115200}" "$tty" linux ;;
	esac
	if [ "$INSECURE" != true ] && ! grep -qx "$tty" "$securetty"; then
		echo "getty: console=$tty: not in $securetty; root cannot log in there" | tee "/dev/$tty"
	fi
	echo "getty: on $tty"
	keep "$@" &
	children="$children $!"
}

if [ -f "$shadow" ]; then
	# A line break more does no harm, and login needs the last one.
	(umask 077 && { cat "$shadow"; echo; } >/etc/shadow) ||
		echo "getty: cannot write /etc/shadow; $shadow is not used"
fi

seen= children=
for word in $(cat /proc/cmdline); do
	case $word in console=*) console "${word#console=}" ;; esac
done
[ -n "$children" ] || echo "getty: the kernel's command line names no console that is there"

if [ -z "$INITGETTY" ]; then
	# A service that has no console is no service that has failed.
	[ -n "$children" ] || { sleep 2147483647 & children=$!; }
	# Shells end with the container, of which this is the first process.
	trap 'kill $children; exit 0' TERM
	wait
fi
