#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Switches the machine off after so many seconds (30 if nothing is said).
#
# By way of PID 1, so that services end and disks are unmounted. A PID 1 that
# does not do it within a minute is not waited for any longer.
sleep "${1:-30}"
kill -USR2 1
sleep 60
echo "poweroff: PID 1 has not switched the machine off within 60 s; doing it now" >&2
exec poweroff -f
