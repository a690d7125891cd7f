# Everything that a person or CI runs. Needs Go 1.26, make and, for the lab,
# Linux and root; the lab installs its Debian packages itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

NODES ?= 2
MODE ?= nftables
LAB ?= .lab
KUBE_VERSION := v1.37.2
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
COMMON := github.com/prometheus/common/version
LDFLAGS := -s -w -X $(COMMON).Version=$(VERSION) -X $(COMMON).Revision=$(REVISION)
KUBE_LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(KUBE_VERSION) \
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37
export CGO_ENABLED ?= 0

.PHONY: help build image vulncheck deploy deploy-update docs-update release release-check mixin mixin-update mixin-record test test-unit test-lab lab-build lab-up lab-down demo bench lint fmt clean

help: ## this list
	@awk -F ' *##? *' '/^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); printf "%-16s %s\n", $$1, $$NF }' $(MAKEFILE_LIST)

build: ## the program, bin/kproxy-exporter
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/kproxy-exporter ./cmd/kproxy-exporter

tools/bin/image: $(wildcard tools/image/*)
	cd tools/image && go build -o ../bin/image .

# An OCI image without a container engine: the same files as the Dockerfile's.
image: build tools/bin/image ## its OCI image, without a container engine
	tools/bin/image --output bin/kproxy-exporter.tar --ref kproxy.lab/kproxy-exporter:lab --user 65532:65532 \
		--entrypoint /kproxy-exporter bin/kproxy-exporter=/kproxy-exporter

test: test-unit mixin deploy test-lab ## all tests; needs root and Linux

test-unit: ## unit tests, without a lab
	@test -z "$$(gofmt -l cmd collector deploy lab mixin prober tools | tee /dev/stderr)"
	go vet ./... && cd lab && go vet ./...
	command -v gcc >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends gcc libc6-dev; } # for -race
	@[ "$$(id -u)" = 0 ] || echo "NOT RUN: without root nothing of collector/rules meets a kernel"
	{ command -v nft && command -v iptables-legacy-restore; } >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends nftables iptables; } # for collector/rules
	CGO_ENABLED=1 go test -race -count=1 ./...

JSONNET := cd tools/jsonnet && go tool
MIXIN := $(CURDIR)/mixin

tools/bin/promtool:
	tools/prometheus.sh $(CURDIR)/tools/bin

# The mixin: its form, that what is committed is what it renders, the tests of
# promtool (of Debian's and of the newest Prometheus), and those with Prometheus' and Alertmanager's own engines.
mixin: tools/bin/promtool ## tests of alerts, rules and dashboards
	$(JSONNET) jsonnetfmt --test -n 2 --max-blank-lines 2 --string-style s --comment-style s $$(find $(MIXIN) -name '*.libsonnet' -o -name '*.jsonnet')
	tools/bin/promtool check rules --lint=all --lint-fatal mixin/rendered/alerts.yaml mixin/rendered/rules.yaml
	tools/bin/promtool test rules mixin/tests/*.yaml mixin/tests/other/*.yaml
	cd mixin/tests && go tool promtool test rules *.yaml other/*.yaml
	cd mixin/tests && go vet . && go test -count=1 -timeout 20m .

# Writes what is generated: what the mixin renders, then what faults lead to.
mixin-update: ## write what the mixin renders
	cd mixin/tests && go test -count=1 -run TestRenderedIsFresh . -update && go test -count=1 -run TestFaults . -update

# What the mixin's tests replay, from the lab: an hour, where nothing else runs.
mixin-record: image lab-build lab/bin/alertmanager .mixin-out/hasty ## record the lab for the tests of the mixin (an hour)
	cd lab && KPROXY_LAB_RECORD=$(MIXIN)/tests/recorded go test -count=1 -parallel 4 -timeout 90m -v -run 'TestNotifications|TestRecordHealthy' ./matrix

lab/bin/alertmanager:
	tools/prometheus.sh lab/bin

tools/bin/helm: tools/helm/go.mod
	@echo "building Helm (minutes the first time)"
	cd tools/helm && go build -o ../bin/helm helm.sh/helm/v4/cmd/helm

# The chart: linted, and rendered with many values; the plain manifests are what it renders.
deploy: tools/bin/helm ## tests of the Helm chart
	cd deploy/tests && go vet . && go test -count=1 .

# docs/configuration.md and docs/metrics.md, from the flags and the metrics.
docs-update: ## write the generated references
	go test -count=1 -run Reference ./cmd/kproxy-exporter ./collector -update

deploy-update: tools/bin/helm ## write the plain manifests
	cd deploy/tests && go test -count=1 -run TestManifestsAreRendered . -update

tools/bin/cyclonedx-gomod: tools/sbom/go.mod
	cd tools/sbom && go build -o ../bin/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

# What people download: programs and images for two architectures, with checksums.
release: tools/bin/image tools/bin/cyclonedx-gomod ## programs, images, SBOMs and checksums in dist
	tools/release.sh $(VERSION) $(REVISION) dist
	cat dist/sha256sums.txt

# Known vulnerabilities in what is compiled in; it needs the internet for them.
vulncheck: ## known vulnerabilities of the dependencies
	go -C tools/vulncheck tool govulncheck -C $(CURDIR) ./...

# Builds it again elsewhere, with nothing that was built before, and compares.
release-check: release ## build the release again and compare
	rm -rf .release-check && git worktree prune && git worktree add --detach .release-check
	mkdir -p .release-check/tools/bin && cp tools/bin/image tools/bin/cyclonedx-gomod .release-check/tools/bin/
	GOCACHE=$(CURDIR)/.release-check/cache .release-check/tools/release.sh $(VERSION) $(REVISION) dist
	diff dist/sha256sums.txt .release-check/dist/sha256sums.txt && echo "the same bytes"
	chmod -R u+w .release-check && git worktree remove --force .release-check

# The mixin for the lab: all its times pass 30 times faster.
.mixin-out/hasty: $(shell find mixin -name '*sonnet')
	$(JSONNET) jsonnet -J $(MIXIN) -S -c -m $(CURDIR)/$@ -V haste=30 $(MIXIN)/hasty.jsonnet
	touch $@

# The lab's own tests, then the matrix: real faults, real verdicts. One package
# at a time: the first looks for anything that a lab left on this machine.
test-lab: image lab-build lab/bin/alertmanager .mixin-out/hasty tools/bin/helm ## tests on real clusters
	cd lab && go test -count=1 -p 1 -parallel 4 -timeout 80m -v ./... 2>&1 | grep --line-buffered -v '\[no test files\]' | awk -f ../tools/failures.awk

demo: image lab-build lab/bin/alertmanager .mixin-out/hasty ## break a real cluster, show the alerts
	lab/bin/kproxy-lab --lab .lab-demo down
	lab/bin/kproxy-lab --lab .lab-demo demo --rules .mixin-out/hasty/rules.json

# What it costs: the rules on 5,000 nodes, the node role idle, a probe beside a
# bare connection, and the cluster role beside kube-state-metrics on the same cluster.
bench: image lab-build ## what the exporter costs
	cd mixin/tests && go test -run '^$$' -bench . -benchtime 5x .
	cd lab && go test -run '^$$' -bench . -benchtime 5x ./audit
	cd tools/kube-state-metrics && go build -o ../../lab/bin/kube-state-metrics k8s.io/kube-state-metrics/v2
	lab/bin/kproxy-lab --lab .lab-bench down
	lab/bin/kproxy-lab --lab .lab-bench bench

lab-build: tools/bin/image
	@echo "building Kubernetes $(KUBE_VERSION) and the lab (minutes the first time, seconds after)"
	cd lab && go build -o bin/kproxy-lab ./cmd/kproxy-lab && go build -ldflags '-s -w' -o bin ./cmd/pause ./cmd/web
	cd lab && GOARCH=$(if $(filter arm64,$(shell go env GOARCH)),amd64,arm64) go build -ldflags '-s -w' -o bin/pause-wrong-arch ./cmd/pause
	lab/bin/kproxy-lab check
	cd lab && go build -ldflags '$(KUBE_LDFLAGS)' -o bin/kube ./cmd/kube && ./images.sh ../tools/bin/image bin $(KUBE_VERSION)

lab-up: lab-build ## start a lab (NODES, MODE)
	lab/bin/kproxy-lab --lab $(LAB) up --nodes $(NODES) --mode $(MODE)

lab-down: ## end the lab
	lab/bin/kproxy-lab --lab $(LAB) down

tools/bin/golangci-lint: tools/golangci-lint/go.mod
	@echo "building golangci-lint (minutes the first time)"
	cd tools/golangci-lint && go build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: tools/bin/golangci-lint ## golangci-lint
	tools/bin/golangci-lint run ./...
	cd lab && ../tools/bin/golangci-lint run --config ../.golangci.yml ./...

fmt: ## gofmt
	gofmt -w cmd collector lab mixin prober tools

clean: ## remove what was built
	rm -rf bin lab/bin tools/bin .mixin-out
