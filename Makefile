# Everything a user or a developer does with the tree. `make help` lists it.

HOST   := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
STAGE  := target/stage/bin
PREFIX ?= /usr/local
UNITS  ?= /etc/systemd/system
# Programs of which one runs per pod, or that run beside untrusted data: static, so that nothing of the host is loaded.
SMALL  := hoist-shim hoist-runtime hoist-unpack hoist-hello
LARGE  := hoistd hoist

.PHONY: help setup build demo test laws bench install uninstall clean

help:
	@echo 'make demo       set up, build, start hoistd on a private socket and run a container (IMAGE=registry/name:tag to choose)'
	@echo 'make test       set up, build, check the laws, run every test'
	@echo 'make bench      set up, build, print the table of figures against containerd'
	@echo 'make build      the release programs, in $(STAGE)'
	@echo 'make install    programs and the systemd unit below PREFIX=$(PREFIX); make uninstall takes them away'

setup:
	@scripts/setup.sh

build:
	cargo build --locked --release $(addprefix --package ,$(LARGE))
	RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' LIBSECCOMP_LINK_TYPE=static \
		LIBSECCOMP_LIB_PATH=$$(pkg-config --variable=libdir libseccomp) \
		cargo build --locked --release --target $(HOST) $(addprefix --package ,$(SMALL))
	@mkdir -p $(STAGE)
	@install -m 0755 $(addprefix target/release/,$(LARGE)) $(addprefix target/$(HOST)/release/,$(SMALL)) $(STAGE)/

demo: setup
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh $(STAGE) $(IMAGE)

laws:
	cargo fmt --all --check
	cargo xtask tidy
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/deny.sh

test: setup
	@$(MAKE) --no-print-directory laws
	@$(MAKE) --no-print-directory build
	scripts/test.sh

bench: setup
	@$(MAKE) --no-print-directory build
	cargo build --locked --release --package bench
	scripts/bench.sh $(STAGE)

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(UNITS)
	install -m 0755 $(addprefix $(STAGE)/,$(SMALL) $(LARGE)) $(DESTDIR)$(PREFIX)/bin/
	sed 's,@PREFIX@,$(PREFIX),' scripts/hoistd.service.in > $(DESTDIR)$(UNITS)/hoistd.service
	chmod 0644 $(DESTDIR)$(UNITS)/hoistd.service

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(SMALL) $(LARGE)) $(DESTDIR)$(UNITS)/hoistd.service

clean:
	cargo clean
