# `make help` lists the targets. Every one works from a clean clone; those that need Debian packages install what is
# missing (.ci/packages).
.DELETE_ON_ERROR:
.PHONY: help build generate fmt check test demo bench fuzz clean packages

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
CLANG_FORMAT := clang-format-14
C_FILES := bpf/*.c bpf/headers/*.h
BENCHTIME ?= 1s
FUZZTIME ?= 20s

help:
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:[^#]*## /\t/' | expand -t 10

build: ## the one binary; static, needs only Go
	CGO_ENABLED=0 go build -o anycastle ./cmd/anycastle

generate: packages ## BPF objects and their Go, from the C
	go generate ./bpf

fmt: packages ## gofmt and clang-format
	gofmt -w $$(git ls-files '*.go')
	$(CLANG_FORMAT) -i $(C_FILES)

check: packages ## what needs no run: format, vet, staticcheck, tidy modules, shell
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff
	shellcheck .ci/run .ci/packages

test: packages ## all four layers: unit, packets, namespaces, lab (root)
	ANYCASTLE_TEST_ROOT=1 go test -race -shuffle=on -timeout 15m $$(go list ./... | grep -v '/lab$$')
	ANYCASTLE_TEST_ROOT=1 go test -race -shuffle=on -timeout 15m ./lab # alone: its client must not starve

demo: build ## two sites in namespaces, mail through the VIP, faults, a table (root; needs only Go); REPORT=DIR writes DIR/demo.json
	./anycastle lab demo $(if $(REPORT),--report "$(REPORT)")

bench: ## benchmarks beside the code (root for the packet ones); REPORT=DIR writes DIR/bench.json
	@go test -run '^$$' -bench . -benchtime $(BENCHTIME) ./bpf ./lb >.bench.txt; status=$$?; cat .bench.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -f .ci/bench.awk .bench.txt >"$(REPORT)/bench.json"; }
	@rm -f .bench.txt

fuzz: ## each fuzz target for FUZZTIME
	@for dir in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
			echo "$$dir $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$dir || exit 1; \
		done; \
	done

clean: ## what was built
	rm -f anycastle .bench.txt

packages:
	@.ci/packages
