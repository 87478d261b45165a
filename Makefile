# fdt: build, test and pack. Each target says what it does and installs the Debian packages that it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' packaging/deb/changelog)
ARCH := $(shell dpkg --print-architecture)
DEB := dist/fdt_$(VERSION)_$(ARCH).deb
COVER_DEB := build/cover/fdt_$(VERSION)_$(ARCH).deb
# The release's own date dates every file in the package, so that two builds are the same bytes.
export SOURCE_DATE_EPOCH := $(shell date -d "$$(sed -n 's/^ -- .*>  //p' packaging/deb/changelog | head -n 1)" +%s)
export VERSION ARCH

# Pure Go: one static program, the same on every Debian.
export CGO_ENABLED = 0
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)
GOBUILD := go build -trimpath -buildvcs=false
NFPM := go tool -modfile=tools/go.mod nfpm
LINT := go tool -modfile=tools/go.mod golangci-lint
PROGRAMS := fdtctl fdt-master fdt-worker fdt-metrics fdt-generator
PAGES := $(wildcard docs/man/*.[578])
SOURCES = $(shell find . -name '*.go' -not -path './build/*' -not -name '*_test.go') go.mod go.sum
PACKAGING := nfpm.yaml docs/operator.md $(PAGES) $(shell find packaging examples -type f)

# need PACKAGE…: install those that are missing, as root or by sudo.
define need
	@missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}\n' $$p 2>/dev/null | grep -q 'install ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "== installing $$(echo $$missing)"; \
		root=; [ "$$(id -u)" = 0 ] || root=sudo; \
		{ $$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; } >/dev/null; \
	fi
endef
LINTIAN := $(or $(FDT_CACHE),/var/cache/fdt-bed)/lintian-trixie
# Real databases and a pooler, openssl for their certificates, a C compiler for the race detector, what alters the kernel's answers, and
# promtool, which is in Debian's prometheus. The shells complete fdtctl's command line.
UNIT_PACKAGES := postgresql pgbouncer mariadb-server galera-4 openssl gcc libc6-dev strace prometheus zsh fish
BED_PACKAGES := systemd-container mmdebstrap debian-archive-keyring util-linux

.PHONY: help deb cover-deb unit integration test clients demo bench lint bed-shell clean
help:
	@echo 'make deb          build $(DEB)'
	@echo 'make unit         tests that need neither root nor a container'
	@echo 'make integration  tests of the installed package in booted systemd (root); RUN=… are those of a name, PKG=… of a package'
	@echo 'make test         both, with the coverage of both together (root)'
	@echo 'make clients      all unmodified drivers, ORMs and consoles, of Debian 12 and 13, of npm and Go (root); make test runs a part'
	@echo 'make demo         the main job end to end, narrated (root)'
	@echo 'make bench        measures, as ratios taken in one run (root)'
	@echo 'make lint         gofmt, go vet, golangci-lint, man pages, lintian (root)'
	@echo 'make bed-shell    boot a container, install the package, open a shell (root); CMD=… runs that instead'
	@echo 'make clean        remove build/ and dist/'

deb: $(DEB)
$(DEB): $(SOURCES) $(PACKAGING) Makefile
	@echo '== building $(DEB)'
	@rm -rf build/deb && mkdir -p build/deb/bin build/deb/doc dist
	@$(GOBUILD) -ldflags '$(LDFLAGS)' -o build/deb/bin/ $(PROGRAMS:%=./cmd/%)
	@$(call pack,build/deb,dist)

# The same package with instrumented programs, for the coverage of tests in the bed.
cover-deb: $(COVER_DEB)
$(COVER_DEB): $(SOURCES) $(PACKAGING) Makefile
	@echo '== building $(COVER_DEB) (instrumented)'
	@rm -rf build/cover/deb && mkdir -p build/cover/deb/bin build/cover/deb/doc
	@$(GOBUILD) -cover -covermode=atomic -coverpkg=./... -ldflags '$(LDFLAGS)' -o build/cover/deb/bin/ $(PROGRAMS:%=./cmd/%)
	@$(call pack,build/cover/deb,build/cover)

# pack STAGE,DIRECTORY: compress the documentation and write the package.
define pack
	for page in $(PAGES); do gzip -9n <$$page >$(1)/doc/$$(basename $$page).gz; done; \
	gzip -9n <packaging/deb/changelog >$(1)/doc/changelog.gz; \
	said=$$(STAGE=$(1) $(NFPM) package -f nfpm.yaml -p deb -t $(2)/fdt_$(VERSION)_$(ARCH).deb) || { echo "$$said"; exit 1; }
endef

unit:
	$(call need,$(UNIT_PACKAGES))
	@echo '== unit tests'
	@go test ./...

integration: deb
	$(call need,$(BED_PACKAGES))
	@echo '== tests in booted systemd'
	@FDT_BED=1 FDT_DEB=$(CURDIR)/$(DEB) FDT_RELEASE_DEB=$(CURDIR)/$(DEB) \
		go test -count=1 -timeout=40m -p=2 $(if $(RUN),-run '$(RUN)') $(or $(PKG),./internal/bed/... ./test ./test/clients ./test/generator)

test: deb cover-deb
	$(call need,$(UNIT_PACKAGES) $(BED_PACKAGES))
	@echo '== unit tests and tests in booted systemd, with coverage'
	@FDT_DEB=$(CURDIR)/$(DEB) FDT_COVER_DEB=$(CURDIR)/$(COVER_DEB) go run ./test/suite

clients: deb
	$(call need,$(BED_PACKAGES))
	@echo '== every client and tool against the installed package'
	@FDT_BED=1 FDT_CLIENTS=all FDT_DEB=$(CURDIR)/$(DEB) go test -count=1 -timeout=60m -v ./test/clients

demo: deb
	$(call need,$(BED_PACKAGES))
	@go run ./test/demo -deb $(DEB)

bench: deb
	$(call need,$(BED_PACKAGES))
	@FDT_DEB=$(CURDIR)/$(DEB) go run ./test/bench $(BENCH)

lint: deb
	$(call need,mandoc mmdebstrap debian-archive-keyring)
	@echo '== gofmt, go vet, golangci-lint'
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not formatted: $$bad"; exit 1; }
	@go mod tidy -diff
	@go vet ./...
	@$(LINT) run ./...
	@cd examples/shop && go mod tidy -diff && go vet ./... && $(subst tools/,../../tools/,$(LINT)) run ./...
	@echo '== man pages'
	@mandoc -T lint -W warning $(PAGES)
	@[ -d $(LINTIAN) ] || { \
		echo '== making a tree of Debian 13 for its lintian'; \
		rm -rf $(LINTIAN).partial; mkdir -p $(dir $(LINTIAN)); \
		mmdebstrap --quiet --variant=apt --include=lintian trixie $(LINTIAN).partial; \
		mv $(LINTIAN).partial $(LINTIAN); }
	@echo '== lintian'
	@package=$$(mktemp --suffix=.deb -p $(LINTIAN)/tmp); trap 'rm -f "$$package"' EXIT; cp $(DEB) "$$package"; \
		chroot $(LINTIAN) lintian --allow-root --pedantic --display-info --fail-on error,warning,info,pedantic \
			/tmp/$$(basename "$$package")

bed-shell: deb
	$(call need,$(BED_PACKAGES))
	@go run ./internal/bed/cmd/bed -deb $(DEB) -- $(CMD)

clean:
	rm -rf build dist
