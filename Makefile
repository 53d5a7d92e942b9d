# `make help` lists the targets. Every one works from a clean clone; those that need Debian packages install what is
# missing (.ci/packages).
.DELETE_ON_ERROR:
.PHONY: help build generate fmt check test race test-mail test-kernel demo lab bench bench-lb bench-rhi bench-gss bench-mail bench-store chaos soak fuzz clean packages

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
CLANG_FORMAT := clang-format-14
C_FILES := bpf/*.c bpf/headers/*.h bpf/testdata/*.c
BENCHTIME ?= 1s
SOAK ?= 30m
FUZZTIME ?= 20s
MINUTES ?= 20
SEED ?= 0
# What runs on the oldest kernel: packages, or some tests of one. A processor is emulated there, so random packets are few.
KERNEL ?= 6.1
KERNEL_TESTS ?= ./bpf ./internal/nexthop ./lb/real ./lb/real/sockets './lb=TestRealAcrossKill|TestNewVIPStartsCountingAtZero|TestSecondLBIsRefused'
KERNEL_LIMIT ?= 10m
KERNEL_RANDOM_PACKETS ?= 10000

help:
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:[^#]*## /\t/' | expand -t 14

# No cgo is in the product. Without it throughout, what is compiled to be checked is there to be linked.
build generate check: export CGO_ENABLED = 0

build: ## the one binary; static, needs only Go
	go build -o anycastle ./cmd/anycastle

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
	shellcheck .ci/run .ci/packages .ci/race-test .ci/single-threaded .ci/kernel-image

test-mail: packages ## the mail roles before clients, filters and directories of others, from Debian (root)
	.ci/race-test ./lab/mailtest ./mailroles/...

# The race detector makes tests some 5 x slower, so `make test` has it where most things run at once and `make race` everywhere.
# PROCESSES watch the built binary from outside, as ./lab does, which runs alone: its client must not starve.
RACES := ./internal/mesh ./internal/probe ./internal/daemon ./rhi/bfd ./mailroles/replica/...
PROCESSES := ./cmd/anycastle ./lab/lbbench ./lab/mailtest ./lab/chaos ./lab/gssbench
# A fifth of the random packets that `go test ./bpf` has: each costs the same as the first.
TEST := ANYCASTLE_TEST_ROOT=1 ANYCASTLE_RANDOM_PACKETS=200000 ANYCASTLE_BINARY=$(CURDIR)/anycastle CGO_ENABLED=0 go test -vet=off -shuffle=on
test: packages build ## all four layers: unit, packets, namespaces, lab (root)
	go list $(RACES) $(PROCESSES) ./lab >.apart
	$(TEST) -p 3 $$(go list ./... | grep -vxFf .apart)
	$(TEST) -p 3 $(PROCESSES)
	.ci/race-test $(RACES)
	$(TEST) ./lab

# Where nothing runs at the same time as anything else there is nothing to find: .ci/single-threaded.
race: packages build ## all packages with the race detector, half an hour (root)
	.ci/single-threaded >.apart
	ANYCASTLE_BINARY=$(CURDIR)/anycastle .ci/race-test $$(go list ./... | grep -vxF -e anycastle/lab -e anycastle/rhi/decide | grep -vxFf .apart)

test-kernel: ## the tests that meet the kernel, on Debian's Linux 6.1 in QEMU; KERNEL_TESTS='./bpf=TestLB ./lb/real' chooses
	@.ci/packages qemu-system-x86
	@image=$$(.ci/kernel-image $(KERNEL)) && CGO_ENABLED=0 go build -o .test-kernel ./lab/kernel && \
		ANYCASTLE_RANDOM_PACKETS=$(KERNEL_RANDOM_PACKETS) ./.test-kernel -image "$$image" -limit $(KERNEL_LIMIT) $(KERNEL_TESTS)

demo: build ## two sites in namespaces, mail through the VIP, faults, a table (root; needs only Go); REPORT=DIR writes DIR/demo.json
	./anycastle lab demo $(if $(REPORT),--report "$(REPORT)")

lab: build ## every fault of lab/scenarios and the way back from it, under load, against what is promised (root; wants more than two cores); REPORT=DIR keeps the report there
	@.ci/packages unbound
	./anycastle lab run --all $(if $(REPORT),--report "$(REPORT)")

bench: ## benchmarks beside the code (root for the packet ones); REPORT=DIR writes DIR/bench.json
	@go test -run '^$$' -bench . -benchtime $(BENCHTIME) ./bpf ./lb ./lb/real/sockets ./internal/probe >.bench.txt; status=$$?; cat .bench.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -f .ci/bench.awk .bench.txt >"$(REPORT)/bench.json"; }
	@rm -f .bench.txt

# Another balancer is measured too if ANYCASTLE_BENCH_PEER=NAME=PATH is set: see bpf/peer_test.go.
bench-lb: BENCHTIME = 5s
bench-lb: ## the balancer's figures beside a peer's, some minutes (root); REPORT=DIR writes DIR/bench-lb.json
	@.ci/packages haproxy nftables clang-14
	@go test -run '^$$' -bench . -benchtime $(BENCHTIME) -timeout 1h ./bpf ./lb ./lb/real/sockets ./internal/probe ./lab/lbbench >.bench-lb.txt; status=$$?; cat .bench-lb.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -v short=1 -f .ci/bench.awk .bench-lb.txt >"$(REPORT)/bench-lb.json"; }
	@rm -f .bench-lb.txt

bench-rhi: ## how fast routers of others follow, FRR and BIRD, some minutes (root); REPORT=DIR writes DIR/bench-rhi.json
	@.ci/packages frr bird2
	@go test -run '^$$' -bench RHI -benchtime 1x -timeout 1h ./rhi >.bench-rhi.txt; status=$$?; grep -v '^ ' .bench-rhi.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -v short=1 -v key=event -f .ci/bench.awk .bench-rhi.txt >"$(REPORT)/bench-rhi.json"; }
	@rm -f .bench-rhi.txt

bench-gss: ## CPU for a DNS query beside other servers, and how fast resolvers follow a site's death (root); REPORT=DIR writes DIR/bench-gss.json
	@.ci/packages gdnsd knot nsd dnsperf nftables unbound bind9 knot-resolver pdns-recursor dnsmasq-base
	@go test -p 1 -run '^$$' -bench '^BenchmarkGSS|^BenchmarkProbes$$/^probes-each-second|^BenchmarkFailover|^BenchmarkAlways|^BenchmarkResolve' -benchtime 1x -timeout 2h ./gss/gssbench ./internal/probe ./lab/gssbench >.bench-gss.txt; status=$$?; cat .bench-gss.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -v short=1 -f .ci/bench.awk .bench-gss.txt >"$(REPORT)/bench-gss.json"; }
	@rm -f .bench-gss.txt

bench-mail: ## mail taken, and IMAP's work, beside Postfix and Dovecot on the same file system; memory of idle sessions (root); REPORT=DIR writes DIR/bench-mail.json
	@.ci/packages postfix dovecot-imapd dovecot-lmtpd
	@go test -run '^$$' -bench '^BenchmarkMail' -benchtime 1x -timeout 1h ./lab/mailtest >.bench-mail.txt; status=$$?; cat .bench-mail.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -v short=1 -f .ci/bench.awk .bench-mail.txt >"$(REPORT)/bench-mail.json"; }
	@rm -f .bench-mail.txt

bench-store: ## replicated stores: killed, a site cut off, moved; what two sites cost; restore (root); REPORT=DIR writes DIR/bench-store.json
	@.ci/packages isync
	@go test -run '^$$' -bench '^BenchmarkStore' -benchtime 1x -timeout 2h ./lab/chaos >.bench-store.txt; status=$$?; cat .bench-store.txt; exit $$status
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && awk -v short=1 -f .ci/bench.awk .bench-store.txt >"$(REPORT)/bench-store.json"; }
	@rm -f .bench-store.txt

chaos: ## ten random faults a minute under load, then both sites compared; SEED=n MINUTES=20; sets the clock (root); REPORT=DIR writes DIR/chaos.json
	@go test -run '^TestChaos$$' -count 1 -v -timeout 0 ./lab/chaos -args -seed $(SEED) -minutes $(MINUTES) -clock $(if $(REPORT),-report "$(abspath $(REPORT))")

soak: ## BFD and BGP with FRR and BIRD at full CPU load, for SOAK (30m), without one false loss (root); REPORT=DIR writes DIR/soak.json
	@.ci/packages frr bird2 nftables
	@test -z "$(REPORT)" || { mkdir -p "$(REPORT)" && rm -f "$(REPORT)/soak.json"; }
	@go test -run '^$$' -bench Soak -benchtime 1x -timeout 0 ./rhi -args -soak $(SOAK) $(if $(REPORT),-report "$(abspath $(REPORT))/soak.json")

fuzz: ## each fuzz target for FUZZTIME
	@for dir in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
			echo "$$dir $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$dir || exit 1; \
		done; \
	done

clean: ## what was built
	rm -f anycastle .single-threaded .bench.txt .bench-lb.txt .bench-rhi.txt .bench-gss.txt .bench-mail.txt .bench-store.txt .test-kernel

packages:
	@.ci/packages
