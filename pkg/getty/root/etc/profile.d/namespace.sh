# SPDX-License-Identifier: Apache-2.0
# A shell that is not in the root's namespaces says so, and has the root's
# programs (ctr, runc, service) by way of small ones that go there.
if [ "$(readlink /proc/self/ns/mnt)" != "$(readlink /proc/1/ns/mnt)" ]; then
	export PS1="(ns: getty) $PS1"
	export PATH="$PATH:/usr/libexec/getty/root"
fi
