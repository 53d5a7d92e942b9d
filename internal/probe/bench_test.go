package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serveFor names the variable that makes this binary a server for benchmarks, whose CPU time is not that of the probes.
const serveFor = "PROBE_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveFor) != "" {
		if err := serveBench(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveBench prints the addresses of a TCP and an SMTP server and serves until stdin ends.
func serveBench() error {
	for _, handle := range []func(net.Conn){
		func(c net.Conn) { io.Copy(io.Discard, c) },
		func(c net.Conn) {
			in := bufio.NewReaderSize(c, 256)
			for reply := "220 mx.example.org ESMTP\r\n"; reply != ""; {
				io.WriteString(c, reply)
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				reply = "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 STARTTLS\r\n"
				if strings.HasPrefix(line, "QUIT") {
					io.WriteString(c, "221 bye\r\n")
					return
				}
			}
		},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(ln.Addr())
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					handle(c)
				}()
			}
		}()
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// startBenchServer runs the servers in a process of their own.
func startBenchServer(b *testing.B) map[string]netip.AddrPort {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveFor+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	addrs := map[string]netip.AddrPort{}
	lines := bufio.NewScanner(out)
	for _, name := range []string{"tcp", "smtp"} {
		if !lines.Scan() {
			b.Fatal("the server says nothing")
		}
		addrs[name] = netip.MustParseAddrPort(lines.Text())
	}
	return addrs
}

// runner is a way to probe targets: ours, or a peer's.
type runner func(ctx context.Context, targets []Target, f Func, report func(Result)) error

// goroutines is the plain way: a goroutine and a ticker for each target.
func goroutines(ctx context.Context, targets []Target, _ Func, report func(Result)) error {
	f, err := compile(targets[0].Config)
	if err != nil {
		return err
	}
	var probing sync.WaitGroup
	for i, t := range targets {
		probing.Go(func() {
			counter, said := NewCounter(t.Config.Fail, t.Config.Pass, t.Config.Window), Advice{Weight: 100}
			wait := func(c <-chan time.Time) bool {
				select {
				case <-ctx.Done():
					return false
				case <-c:
					return true
				}
			}
			if !wait(time.After(t.Config.Interval / 10 * time.Duration(i) / time.Duration(len(targets)))) {
				return
			}
			tick := time.NewTicker(t.Config.Interval)
			defer tick.Stop()
			for {
				start := time.Now()
				once, cancel := context.WithTimeout(ctx, t.Config.Timeout)
				err := failed(f(once, t, &said))
				cancel()
				if ctx.Err() != nil {
					return
				}
				state, changed := counter.Add(err)
				report(Result{Target: t, State: state, Changed: changed, Err: err, Advice: said, At: start, Took: time.Since(start)})
				if !wait(tick.C) {
					return
				}
			}
		})
	}
	probing.Wait()
	return ctx.Err()
}

// cpu is the time that this process and those it waited for have had a processor.
func cpu(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// memory is what lives on the heap and in stacks, when collecting makes it no smaller any more.
func memory() float64 {
	for least := uint64(math.MaxUint64); ; {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if m.HeapAlloc+m.StackInuse >= least {
			return float64(least)
		}
		least = m.HeapAlloc + m.StackInuse
	}
}

// probeBench runs targets until each has been probed once, takes the memory, and then the CPU time of b.N probes at the
// targets' pace, but of no less than a round of all of them. It gives probes for a second of CPU, and bytes for a
// target.
func probeBench(b *testing.B, run runner, targets []Target) (perCPU, bytes float64) {
	before := memory()
	results := make(chan Result, 256)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = run(ctx, targets, nil, func(r Result) { results <- r }) })
	for range targets {
		<-results // all within a tenth of the interval, which a busy machine may not keep up with
	}
	bytes = (memory() - before) / float64(len(targets))
	n := max(b.N, len(targets))
	used := cpu(b)
	for range n {
		if r := <-results; r.Err != nil {
			b.Error(r.Err)
		}
	}
	used = cpu(b) - used
	cancel()
	go func() {
		running.Wait()
		close(results)
	}()
	for range results {
	}
	b.ReportMetric(float64(used.Nanoseconds())/float64(n), "ns/op")
	return float64(n) / used.Seconds(), bytes
}

// oneCore probes 10,000 targets by SMTP as fast as one processor can, and gives how many probes end in a minute and the
// memory that the whole process has at that time. The targets are another process, on another processor.
func oneCore(b *testing.B, addr netip.AddrPort) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cfg := &Config{}
	cfg.SetDefaults()
	cfg.Type, cfg.Interval, cfg.Timeout = "smtp", time.Second, time.Minute // more than it can do
	targets := make([]Target, 10_000)
	for i := range targets {
		targets[i] = Target{Name: fmt.Sprintf("farm/real%d", i), Addr: addr, Config: cfg}
	}
	results := make(chan Result, 256)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = Run(ctx, targets, nil, func(r Result) { results <- r })
		close(results)
	})
	for range targets {
		<-results
	}
	n, start, used := max(b.N, len(targets)), time.Now(), cpu(b)
	for range n {
		if r := <-results; r.Err != nil {
			b.Error(r.Err)
		}
	}
	took := time.Since(start)
	b.ReportMetric(float64(n)/took.Minutes(), "probes_per_minute")
	b.ReportMetric((cpu(b)-used).Seconds()/took.Seconds(), "cores")
	b.ReportMetric(float64(len(targets)), "targets")
	b.ReportMetric(resident(b), "rss_bytes")
	b.ReportMetric(memory(), "heap_bytes")
	b.ReportMetric(float64(took.Nanoseconds())/float64(n), "ns/op")
	cancel()
	for range results {
	}
	running.Wait()
}

// everySecond probes 10,000 targets by TCP each second on one processor, and gives how many probes end in a second and how much of
// the processor that takes. The targets are another process, on another processor.
func everySecond(b *testing.B, addr netip.AddrPort) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cfg := &Config{}
	cfg.SetDefaults()
	cfg.Timeout = cfg.Interval
	targets := make([]Target, 10_000)
	for i := range targets {
		targets[i] = Target{Name: fmt.Sprintf("answer%d", i), Addr: addr, Config: cfg}
	}
	var ended, failed atomic.Int64
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = Run(ctx, targets, nil, func(r Result) {
			if ended.Add(1); r.Err != nil {
				failed.Add(1)
			}
		})
	})
	time.Sleep(12 * cfg.Interval) // after ten gaps their places are spread over the interval
	n, start, used := ended.Load(), time.Now(), cpu(b)
	time.Sleep(10 * cfg.Interval)
	n, used = ended.Load()-n, cpu(b)-used
	took := time.Since(start)
	cancel()
	running.Wait()
	b.ReportMetric(float64(n)/took.Seconds(), "probes_per_s")
	b.ReportMetric(used.Seconds()/took.Seconds(), "cores")
	b.ReportMetric(float64(failed.Load()), "failed")
	b.ReportMetric(float64(len(targets)), "targets")
	b.ReportMetric(0, "ns/op")
}

// resident is the memory of this process that the kernel counts.
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return float64(pages * os.Getpagesize())
}

// BenchmarkProbes probes 5,000 targets at a pace of 1,000 a second. ns/op is CPU time of the probing process, its half
// of the loopback included; the targets are a process of their own. The peers: the same probes with a goroutine and a
// timer for each target, and a program that does nothing, forked and executed for each probe.
func BenchmarkProbes(b *testing.B) {
	addrs := startBenchServer(b)
	b.Run("probes", func(b *testing.B) { oneCore(b, addrs["smtp"]) })
	b.Run("probes-each-second", func(b *testing.B) { everySecond(b, addrs["tcp"]) })
	peers := map[string]float64{}
	for _, bc := range []struct {
		kind, how string
		run       runner
		targets   int
		interval  time.Duration
	}{
		{"tcp", "peer=goroutines", goroutines, 5000, 5 * time.Second},
		{"tcp", "runner", Run, 5000, 5 * time.Second},
		{"smtp", "peer=goroutines", goroutines, 5000, 5 * time.Second},
		{"smtp", "runner", Run, 5000, 5 * time.Second},
		{"exec", "peer=fork-exec", Run, 20, time.Second},
	} {
		b.Run(bc.kind+"/"+bc.how, func(b *testing.B) {
			cfg := &Config{}
			cfg.SetDefaults()
			cfg.Type, cfg.Interval, cfg.Timeout, cfg.Command = bc.kind, bc.interval, bc.interval, []string{"/bin/true"}
			addr, ok := addrs[bc.kind]
			if !ok {
				addr = addrs["tcp"]
			}
			targets := make([]Target, bc.targets)
			for i := range targets {
				targets[i] = Target{Name: fmt.Sprintf("farm/real%d", i), Addr: addr, Config: cfg}
			}
			perCPU, bytes := probeBench(b, bc.run, targets)
			b.ReportMetric(perCPU, "probes_per_cpu_s")
			if bc.targets >= 1000 { // of fewer it is noise
				b.ReportMetric(bytes, "bytes_per_target")
			}
			if bc.how == "runner" {
				b.ReportMetric(perCPU/peers[bc.kind], "x/goroutines")
			} else {
				peers[bc.kind] = perCPU
			}
		})
	}
}
