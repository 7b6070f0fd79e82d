# Pilothouse. `make` alone prints what there is to make.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

NAME    ?= $(or $(CLUSTER_NAME),local)
NODES   ?= 3
MODULES := pkg apiserver scheduler controller-manager kubelet kube-proxy hack
DAEMONS := apiserver scheduler controller-manager kubelet kube-proxy
CLUSTER := bin/cluster -name $(NAME)

# The stamp depends on the commit only, so building twice gives the same bytes.
RELEASE := 0.1.0
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    := $(shell git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)
STAMP   := pilothouse.dev/pkg/version
LDFLAGS := -s -w -X $(STAMP).release=$(RELEASE) -X $(STAMP).commit=$(COMMIT) -X $(STAMP).date=$(DATE)

# No stamp of the repository by go itself: it fails where the checkout belongs to another user.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# Programs are static: they run on any Linux, and are half as large in memory, for with the C library the linker must keep for plugins
# whatever they could ask for. Only the race detector needs it.
export CGO_ENABLED := 0

# Tests that share this machine's two cores and its network namespaces run a
# package at a time; the order is go's own, so output can be compared.
GOTEST := CGO_ENABLED=1 go test -race -timeout 15m

.PHONY: help
help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  NAME=$(NAME) names the cluster, NODES=$(NODES) says how many nodes it has."

## ---- building

.PHONY: prereqs
prereqs: ## install what this machine lacks (Debian, Ubuntu; root)
	@hack/prereqs.sh

.PHONY: build
build: prereqs tools ## build the five daemons and the tools into bin/
	@go build -ldflags '$(LDFLAGS)' -o bin/ $(DAEMONS:%=./%) ./hack/cluster ./hack/testcsi

.PHONY: tools
tools: bin/etcd bin/kubectl bin/coredns

bin/etcd: hack/tools/etcd/main.go hack/tools/etcd/go.mod
	@echo "building etcd (once; takes a minute)"
	@cd hack/tools/etcd && GOWORK=off go build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ .

KUBECTL := k8s.io/component-base/version
bin/kubectl: hack/tools/kubectl/main.go hack/tools/kubectl/go.mod
	@echo "building kubectl (once; takes two minutes)"
	@cd hack/tools/kubectl && v=$$(sed -n 's,.*k8s.io/kubectl v0,v1,p' go.mod) && \
		GOWORK=off go build -trimpath -o $(CURDIR)/$@ -ldflags "-s -w -X $(KUBECTL).gitVersion=$$v \
		-X $(KUBECTL).gitMajor=1 -X $(KUBECTL).gitMinor=$$(cut -d. -f2 <<<$$v) -X $(KUBECTL).gitTreeState=clean" .

# Not trimmed: so it shares what the daemons have compiled.
bin/coredns: hack/tools/coredns/main.go hack/tools/coredns/go.mod
	@echo "building coredns (once; takes a minute)"
	@cd hack/tools/coredns && GOWORK=off go build -ldflags '-s -w' -o $(CURDIR)/$@ .

bin/staticcheck: hack/tools/staticcheck/go.mod
	@echo "building staticcheck (once)"
	@cd hack/tools/staticcheck && GOWORK=off go build -o $(CURDIR)/$@ honnef.co/go/tools/cmd/staticcheck

# A pod network from elsewhere, for the test that runs it. Its backend udp is in C.
bin/flannel: hack/tools/flannel/go.mod
	@echo "building flannel (once; takes three minutes)"
	@cd hack/tools/flannel && CGO_ENABLED=1 GOWORK=off go build -trimpath -tags netgo,osusergo -ldflags '-s -w -extldflags -static' \
		-o $(CURDIR)/$@ github.com/flannel-io/flannel

# Not among the images that every cluster gets.
bin/flannel.tar: bin/flannel $(addprefix hack/images/,debian.go libraries.go flannel.go) | prereqs
	@go run ./hack/images -out bin flannel

# What a cluster has by itself: its name server, and what tests and the demo run.
IMAGES := bin/images/testapp.tar bin/images/coredns.tar

.PHONY: images
images: $(IMAGES) bin/images/redis.tar bin/images/nginx.tar ## build the container images into bin/images

bin/images/testapp.tar: $(wildcard hack/images/*.go hack/images/testapp/*.go hack/testcsi/*.go hack/archive/*.go) | prereqs
	@go run ./hack/images -out bin/images

bin/images/coredns.tar: bin/coredns $(addprefix hack/images/,build.go coredns.go) hack/archive/archive.go | prereqs
	@go run ./hack/images -out bin/images coredns

# These need the package archive, once; a cluster needs neither.
bin/images/redis.tar bin/images/nginx.tar &: $(addprefix hack/images/,debian.go libraries.go redis.go nginx.go) | prereqs
	@echo "fetching Debian packages for the images redis and nginx (once)"
	@go run ./hack/images -out bin/images redis nginx

.PHONY: generate
generate: ## write the generated files anew
	@for m in $(MODULES); do (cd $$m && go generate ./...); done

## ---- running

.PHONY: up
up: build $(IMAGES) ## start a cluster (or repair it) and wait until it is ready
	@$(CLUSTER) up -nodes $(NODES)

.PHONY: demo
demo: ## run a three-replica application on it and call it
	@hack/demo.sh $(NAME)

.PHONY: down
down: ## stop the cluster and leave nothing behind
	@[ -x bin/cluster ] || go build -o bin/ ./hack/cluster
	@$(CLUSTER) down

## ---- testing

.PHONY: test
test: build $(IMAGES) verify unit e2e policy conformance ## everything: laws, unit, integration, end to end (under 25 minutes on 2 cores)

.PHONY: unit
unit: build ## unit and integration tests of every module, with the race detector
	@for m in $(MODULES); do \
		echo "== $$m"; \
		(cd $$m && $(GOTEST) $$(go list ./... | grep -v '^pilothouse.dev/hack/\(e2e\|lint\|tools\)')); \
	done

KILLS ?= 200

.PHONY: chaos
chaos: build ## kill the controller manager KILLS (200) times while everything churns
	@cd controller-manager && $(GOTEST) -run '^TestChaos$$' -v . -kills $(KILLS)

FUZZTIME ?= 60s

.PHONY: fuzz
fuzz: build ## fuzz all that reads bytes from outside, each target for FUZZTIME (60s)
	@for d in $$(grep -rl --include='*_test.go' '^func Fuzz' $(MODULES) | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$d/*_test.go | cut -c6-); do \
			echo "== $$d $$f"; \
			go test ./$$d -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x || exit 1; \
		done; \
	done

.PHONY: e2e
e2e: build $(IMAGES) ## end-to-end tests on a cluster of three nodes (RUN=regexp chooses)
	@$(MAKE) -s images || echo "e2e: without the images redis and nginx two scripts of Workload will fail"
	@cd hack && go test -count=1 -timeout 20m ./e2e -parallel 4 $(if $(RUN),-run '$(RUN)') -cluster=namespaces -v

.PHONY: policy
policy: build $(IMAGES) ## NetworkPolicy's documented cases, everybody to everybody (RUN=regexp chooses)
	@cd hack && go test -count=1 -timeout 5m ./e2e/policy $(if $(RUN),-run 'TestPolicies/$(RUN)') -cluster=namespaces

.PHONY: conformance
conformance: build $(IMAGES) ## conformance rows, passed / total by area (RUN=regexp chooses)
	@cd hack/e2e/conformance && go test -count=1 -timeout 20m -parallel 8 $(if $(RUN),-run 'TestConformance/$(RUN)') -cluster=namespaces

.PHONY: graph
graph: ## print which controller is woken by what, from their tables
	@go run ./controller-manager --graph 2>/dev/null

.PHONY: bench
bench: build $(IMAGES) ## measure, write hack/bench/RESULTS.md
	@go run ./hack/bench -out hack/bench/RESULTS.md

## ---- verifying

.PHONY: verify verify-fmt verify-vet verify-staticcheck verify-modules verify-generated verify-laws
verify: verify-fmt verify-laws verify-vet verify-modules verify-staticcheck verify-generated ## all checks that need no cluster

verify-fmt:
	@bad=$$(gofmt -l $(MODULES)); [ -z "$$bad" ] || { echo "gofmt: run make fix:"; echo "$$bad"; exit 1; }

verify-vet:
	@go vet $(MODULES:%=./%/...)

# In a workspace an undeclared import of a sibling compiles; alone it does not.
verify-modules:
	@for m in $(MODULES); do (cd $$m && GOWORK=off go build ./...) || { echo "$$m does not build alone"; exit 1; }; done

verify-staticcheck: bin/staticcheck
	@for m in $(MODULES); do (cd $$m && $(CURDIR)/bin/staticcheck ./...); done

verify-laws:
	@cd hack && go test -count=1 ./lint/...

verify-generated:
	@if grep -rqs --include='*.go' '^//go:generate' $(MODULES); then \
		before=$$(git status --porcelain; git diff | sha1sum); $(MAKE) -s generate; \
		[ "$$before" = "$$(git status --porcelain; git diff | sha1sum)" ] || { echo "generated files are stale: run make generate"; exit 1; }; \
	fi

.PHONY: fix
fix: ## format, and write generated files anew
	@gofmt -w $(MODULES)
	@$(MAKE) -s generate
