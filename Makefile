# SPDX-License-Identifier: Apache-2.0
# Everything is built below target/. A second run builds and downloads nothing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
TRIPLE := x86_64-unknown-linux-gnu
IMAGES := $(TARGET)/images
STAMPS := $(addprefix $(IMAGES)/.made-,images kernel distro)
PKG := $(TARGET)/$(TRIPLE)/debug/pkg

GUEST_CRATES := init rc metadata vsudd sysctl disk memlogd
GUEST := $(addprefix $(TARGET)/$(TRIPLE)/guest/,$(GUEST_CRATES))
# cargo keeps its own account of what it built.
.PRECIOUS: $(GUEST) $(PKG)

# What is needed beyond Rust, and what for.
BUILD_PACKAGES := g++ gcc git libc6-dev protobuf-compiler
IMAGE_PACKAGES := busybox-static debian-archive-keyring kmod patchelf xz-utils
BOOT_PACKAGES := qemu-system-x86 squashfs-tools util-linux
# What tests compare with, and look into results with.
TEST_PACKAGES := ca-certificates cpio dosfstools e2fsprogs erofs-utils genisoimage iproute2 lz4 mtools openssl procps python3-pip strace time \
	udftools xorriso zstd
PACKAGES := $(BUILD_PACKAGES) $(IMAGE_PACKAGES) $(BOOT_PACKAGES) $(TEST_PACKAGES)

# What is being done, before it is done.
say = @echo '== $(1)'

.PHONY: help
help: ## This list
	@echo 'make TARGET, where TARGET is one of:'
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

.PHONY: setup
setup: ## Install what is missing (Debian packages; needs root for that)
	@command -v cargo >/dev/null || { echo 'Rust is missing: see https://rustup.rs' >&2; exit 1; }
	@command -v dpkg-query >/dev/null || { \
		echo 'This is not Debian. Install what these packages have, by other means: $(PACKAGES)' >&2; exit 1; }
	@missing=; for package in $(PACKAGES); do \
		[ "$$(dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || missing+=" $$package"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	install="apt-get install --yes --no-install-recommends$$missing"; \
	if [ "$$(id -u)" = 0 ]; then \
		echo "== installing$$missing"; \
		apt-get update --quiet && DEBIAN_FRONTEND=noninteractive $$install; \
	else \
		printf 'Debian packages are missing. Run this, and then make again:\n  sudo sh -c "apt-get update && %s"\n' \
			"$$install" >&2; exit 1; \
	fi

.PHONY: guest
guest: setup $(GUEST) ## The programs that go into images

# cargo knows what is up to date; a program it leaves alone keeps its time, and
# nothing made from it is made again.
FORCE:
$(GUEST) &: FORCE
	$(call say,building the guest programs)
	@cargo build --profile guest $(addprefix -p ,$(GUEST_CRATES))

# By its name and not by its package: crates that it shares with tests have the
# same features then, and are built once.
$(PKG): FORCE
	$(call say,building the image tool)
	@cargo build --workspace --bin pkg

.PHONY: images
images: setup $(STAMPS) ## Images of ours, of kernels and of what runs containers

# What the tags of our images are made from: a commit and what differs from it.
$(IMAGES)/.revision: FORCE
	@mkdir -p $(@D)
	@now=$$({ git rev-parse HEAD; git status --porcelain; git diff HEAD; } 2>/dev/null | sha1sum); \
		[ "$$now" = "$$(cat $@ 2>/dev/null)" ] || echo "$$now" > $@

$(IMAGES)/.made-images: $(GUEST) $(PKG) $(IMAGES)/.revision
	$(call say,packing our images)
	@$(PKG) images --bin $(dir $(firstword $(GUEST))) --out $(IMAGES) --cache $(TARGET)/debian
	@touch $@

# These do not depend on the image tool as a whole: they take longer, and
# change with fewer of its files.
DISTRO := pkg/src/debian.rs $(wildcard pkg/src/distro/* pkg/files/* pkg/src/oci/write.rs)
$(IMAGES)/.made-kernel: $(DISTRO) $(wildcard kernel/src/*) | $(PKG)
	$(call say,making kernel images from Debian packages)
	@$(PKG) kernel --out $(IMAGES) --cache $(TARGET)/debian
	@touch $@

$(IMAGES)/.made-distro: $(DISTRO) | $(PKG)
	$(call say,making runtime and containerd images from Debian packages)
	@$(PKG) distro --out $(IMAGES) --cache $(TARGET)/debian
	@touch $@

# The host's side of a machine's vsock, for tests. Nothing is downloaded or
# built again until its version changes.
TOOLS := $(TARGET)/tools
VHOST_VSOCK := 0.3.0
VHOST := $(TOOLS)/.vhost-device-vsock-$(VHOST_VSOCK)
.PHONY: tools
tools: setup $(VHOST) ## Programs for tests that Debian does not have

$(VHOST):
	$(call say,building vhost-device-vsock $(VHOST_VSOCK))
	@cargo install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build vhost-device-vsock --version $(VHOST_VSOCK)
	@rm -rf $(TOOLS)/build
	@touch $@

DEMO := $(TARGET)/demo
.PHONY: run
run: setup $(DEMO)/demo-initrd.img ## Boot the demo image on this terminal; Ctrl-a x or `poweroff` ends it
	$(call say,booting: Ctrl-a x or poweroff ends it)
	@exec qemu-system-x86_64 -accel tcg$(comma)thread=multi -m 1024 -smp 2 -nographic -no-reboot \
		-nic user$(comma)model=virtio-net-pci \
		-kernel $(DEMO)/demo-kernel -initrd $(DEMO)/demo-initrd.img -append "$$(cat $(DEMO)/demo-cmdline)"

comma := ,

$(DEMO)/demo-initrd.img: pkg/demo.yml $(STAMPS)
	$(call say,assembling pkg/demo.yml)
	@$(PKG) build pkg/demo.yml --name demo --dir $(DEMO) --images $(IMAGES)

.PHONY: fmt-check clippy unit boots
fmt-check:
	$(call say,checking the format)
	@cargo fmt --all --check

clippy: setup
	$(call say,running clippy)
	@cargo clippy --workspace --all-targets -- -D warnings

unit: setup
	$(call say,running unit tests)
	@cargo test --workspace --exclude tests --no-fail-fast

# A machine for each processor, and a test in wait for the next that is free or
# without a machine.
boots: images tools
	$(call say,booting images in QEMU)
	@RUST_LIB_BACKTRACE=0 RUST_TEST_THREADS=$$(($$(nproc) + 1)) cargo test -p tests --lib --test '*' --no-fail-fast

# Built once; its own folder, for it shares nothing with ours. Its own
# profile has fat LTO, for which it has too little to do here.
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(TOOLS)/bin/cargo-deny
$(CARGO_DENY):
	$(call say,building cargo-deny $(CARGO_DENY_VERSION))
	@CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --debug --locked --root $(TOOLS) --target-dir $(TOOLS)/build-deny --version $(CARGO_DENY_VERSION) cargo-deny
	@rm -rf $(TOOLS)/build-deny

.PHONY: deny
deny: setup $(CARGO_DENY) ## Licences, sources, duplicates and advisories of all crates
	$(call say,checking the supply chain)
	@.ci/deny $(CARGO_DENY) $(TARGET)/tools/none

# The fuzzers take the time that the machines leave. A session of their own has a
# share of the processors of its own (sched(7), autogroups): that is made the
# least, too. Those of the parsers that face most have their minute each; the
# others are seen to work.
FUZZ_LONG := disk equinix goal_state identify ovf userdata
FUZZ_SHORT := dns http imds lease meta_data text
boots-and-fuzz: images
	$(call say,fuzzing beside the boots: $(TARGET)/fuzz.log)
	@run=metadata/fuzz/run; \
	setsid chrt --idle 0 bash -ec "echo 19 2>/dev/null >/proc/self/autogroup || true; $$run 60 $(FUZZ_LONG); $$run 10 $(FUZZ_SHORT)" \
		>$(TARGET)/fuzz.log 2>&1 & fuzz=$$!; \
	trap 'kill -- -$$fuzz 2>/dev/null || kill $$fuzz 2>/dev/null || true' EXIT; \
	$(MAKE) boots; \
	echo '== waiting for the fuzzers'; \
	wait $$fuzz || { cat $(TARGET)/fuzz.log; exit 1; }; \
	grep '^fuzz: ' $(TARGET)/fuzz.log

# What boots need is downloaded and built beside the checks, by processors that
# these leave idle: they wait for one crate, or run tests that wait.
.PHONY: test checks provisions boots-and-fuzz
test: ## All checks and tests, boots in QEMU included
	@$(MAKE) setup
	@setsid nice -n 19 bash -ec 'echo 19 2>/dev/null >/proc/self/autogroup || true; exec $(MAKE) provisions' & beside=$$!; \
	trap 'kill -- -$$beside 2>/dev/null || true' EXIT; \
	$(MAKE) checks; \
	echo '== waiting for what boots need'; \
	wait $$beside
	@$(MAKE) boots-and-fuzz

checks:
	@$(MAKE) fmt-check
	@$(MAKE) clippy
	@$(MAKE) unit

# The longest for one processor first.
provisions:
	@$(MAKE) images
	@$(MAKE) tools
	@$(MAKE) deny

RUNS ?= 5
.PHONY: bench
bench: images ## Measure boots: a table, and JSON in target/bench (RUNS=5)
	$(call say,measuring $(RUNS) boots of each configuration)
	@RUST_LIB_BACKTRACE=0 cargo run --quiet -p tests --bin bench -- --runs $(RUNS)
	$(call say,measuring $(RUNS) starts of a hundred services)
	@cargo build --quiet -p tests --bin floor
	@RUST_LIB_BACKTRACE=0 cargo run --quiet -p tests --bin hundred -- --runs $(RUNS)

.PHONY: bench-restart
bench-restart: images ## Measure how long a crashed service is away, natively (RUNS=20; root)
	$(call say,measuring restarts)
	@RUST_LIB_BACKTRACE=0 cargo run --quiet -p tests --bin restart -- $(RUNS)

.PHONY: bench-metadata
bench-metadata: images ## Measure metadata: size, memory, times
	$(call say,measuring metadata)
	@RUST_LIB_BACKTRACE=0 cargo test -p tests --test metadata_costs -- --nocapture --test-threads=1

SOAK ?= 50
SURVIVAL ?= 20
.PHONY: soak
soak: images tools ## The long tests: many shutdowns, many connections (SOAK=50), reboots and power cuts (SURVIVAL=20), crashes, restarts
	$(call say,$(SOAK) rounds of shutting down and connecting)
	@LKINIT_SOAK=$(SOAK) RUST_LIB_BACKTRACE=0 cargo test -p tests --test boots -- shutdown:: forwarding:: --nocapture --test-threads=1
	$(call say,a minute of flood through the logger)
	@LKINIT_SOAK=1 cargo test -p rc --test logger -- --nocapture --test-threads=1
	$(call say,$(SURVIVAL) reboots and as many power cuts of a disk)
	@LKINIT_SOAK=$(SURVIVAL) RUST_LIB_BACKTRACE=0 cargo test -p tests --test boots -- survival:: --nocapture --test-threads=1
	$(call say,ten crashes of each kind; containerd away for 30 s; 10,000 restarts)
	@LKINIT_CRASHES=10 LKINIT_OUTAGE=30 LKINIT_RESTARTS=10000 RUST_LIB_BACKTRACE=0 \
		cargo test -p tests --test boots -- crash:: outage:: restarts:: --nocapture --test-threads=1

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: setup ## Fuzz metadata's parsers, a minute each (FUZZ_SECONDS=60, TARGETS=...)
	@metadata/fuzz/run $(FUZZ_SECONDS) $(TARGETS)

.PHONY: bench-vsudd
bench-vsudd: images tools ## Measure vsudd beside bare vsock sockets: target/bench/vsudd.json
	@RUST_LIB_BACKTRACE=0 cargo build --quiet -p tests --bins
	$(call say,measuring vsudd)
	@RUST_LIB_BACKTRACE=0 cargo run --quiet -p tests --bin bench-vsudd

.PHONY: clean
clean: ## Remove everything built, keeping downloaded packages
	@[ ! -d $(TARGET) ] || find $(TARGET) -mindepth 1 -maxdepth 1 -not -name debian -exec rm -rf {} +
