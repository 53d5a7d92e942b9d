package gssbench

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"anycastle/internal/netnstest"

	"golang.org/x/sys/unix"
)

var (
	rounds = flag.Int("rounds", 11, "how often each server is asked in each way, for a second: the median counts")
	peers  = flag.String("peers", "", "the servers, with commas between; all if empty")
)

// load is a way of asking.
type load struct {
	name   string
	rate   int  // queries a second; 0: as many as can be
	do     bool // with DO, of servers that sign
	reload bool // of ours alone, which is told at the same time to make its table anew
}

// plain are the loads of each zone: a tenth of what one process of dnsperf can ask, and all of it.
var plain = []load{{name: "20000-per-s", rate: 20_000}, {name: "saturated"}}

// sample is what one server was found to need under one load, by round.
type sample struct {
	cpu     []float64 // microseconds for each query
	rate    []float64 // queries answered in a second
	latency []float64 // microseconds, the mean of all queries
	longest []float64 // of them, likewise
	lost    float64
}

// What dnsperf says of a run.
var (
	completed = regexp.MustCompile(`Queries completed: +(\d+)`)
	lost      = regexp.MustCompile(`Queries lost: +(\d+)`)
	perSecond = regexp.MustCompile(`Queries per second: +([0-9.]+)`)
	latency   = regexp.MustCompile(`Average Latency \(s\): +([0-9.]+)`)
	longest   = regexp.MustCompile(`Average Latency.*max ([0-9.]+)`)
	noError   = regexp.MustCompile(`NOERROR (\d+)`)
)

// ask has dnsperf ask a server for a second, and adds what it needed.
func (l load) ask(b *testing.B, ns *netnstest.NS, s *server, file string, to *sample) {
	b.Helper()
	_, core := cores(b)
	argv := []string{"-c", strconv.Itoa(core), "dnsperf", "-s", loopback.String(), "-p", strconv.Itoa(s.port), "-d", file,
		"-l", "1", "-c", "8", "-T", "1", "-q", "200"}
	if l.rate > 0 {
		argv = append(argv, "-Q", strconv.Itoa(l.rate))
	}
	if l.do {
		argv = append(argv, "-e", "-D")
	}
	cmd := exec.Command("taskset", argv...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	before := s.used()
	ns.Do(cmd.Start)
	if l.reload {
		check(b, s.cmd.Process.Signal(unix.SIGHUP))
	}
	check(b, cmd.Wait())
	used := s.used() - before
	number := func(of *regexp.Regexp) float64 {
		m := of.FindStringSubmatch(out.String())
		if m == nil {
			b.Fatalf("no %v in\n%s", of, out.String())
		}
		n, err := strconv.ParseFloat(m[1], 64)
		check(b, err)
		return n
	}
	if number(noError) != number(completed) {
		b.Fatalf("%s has no answer for some names:\n%s", s.name, out.String())
	}
	to.cpu = append(to.cpu, float64(used.Nanoseconds())/1000/number(completed))
	to.rate = append(to.rate, number(perSecond))
	to.latency = append(to.latency, 1e6*number(latency))
	to.longest = append(to.longest, 1e6*number(longest))
	to.lost += number(lost)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// ratio is the median of the ratios of two servers in the same rounds.
func ratio(of, to *sample) float64 {
	var list []float64
	for i := range of.cpu {
		list = append(list, of.cpu[i]/to.cpu[i])
	}
	return median(list)
}

// queryFile is what dnsperf asks for, over and over: names by chance.
func queryFile(b *testing.B, names int) string {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for range 200_000 {
		fmt.Fprintf(&text, "%s A\n", hostName(r.IntN(names)))
	}
	file := filepath.Join(b.TempDir(), "queries")
	check(b, os.WriteFile(file, []byte(text.String()), 0o600))
	return file
}

// BenchmarkGSS gives the processor time for a query of each server, and the ratio of ours to it: the median of all rounds.
// With DNSSEC, ours is also compared with itself without. Beside them, queries answered in a second, how long a reply took, in
// the mean and at most, and what a server holds in memory. In the case "reload" the table is made anew on the same core; what
// that costs is in the figure of a query, too.
func BenchmarkGSS(b *testing.B) {
	var signed []load
	for _, l := range plain {
		l.do = true
		signed = append(signed, l)
	}
	measure(b, "1000-names", 1000, slices.Concat(plain, signed))
	reload := plain[0]
	reload.reload = true
	measure(b, "100k-names", 100_000, append(slices.Clone(plain), reload))
}

// site is a zone with all servers that serve it, and what was found.
type site struct {
	zone    string
	servers []*server
	found   map[load]map[string]*sample
	memory  map[string]float64
}

func measure(b *testing.B, zone string, names int, loads []load) {
	ns := netnstest.New(b)
	s := &site{zone: zone, found: map[load]map[string]*sample{}, memory: map[string]float64{}}
	signs := map[string]bool{}
	for i, k := range kinds {
		if *peers == "" || k.name == ours || slices.Contains(strings.Split(*peers, ","), k.name) {
			s.servers = append(s.servers, k.start(b, ns, 5300+i, names))
			signs[k.name] = k.signs
		}
	}
	file := queryFile(b, names)
	for _, l := range loads {
		s.found[l] = map[string]*sample{}
	}
	for round := range *rounds {
		for _, l := range loads {
			for i := range s.servers {
				server := s.servers[(i+round)%len(s.servers)] // nobody is always the first
				if l.do && !signs[server.name] || l.reload && server.name != ours {
					continue
				}
				if s.found[l][server.name] == nil {
					s.found[l][server.name] = &sample{}
				}
				l.ask(b, ns, server, file, s.found[l][server.name])
			}
		}
	}
	for _, server := range s.servers {
		s.memory[server.name] = server.memory()
		server.stop()
	}
	for _, l := range loads {
		s.report(b, l)
	}
}

// report makes the rows of one load.
func (s *site) report(b *testing.B, l load) {
	name := "a-" + s.zone + "/" + l.name
	switch {
	case l.do:
		name = "dnssec-" + s.zone + "/" + l.name
	case l.reload:
		name = "reload-" + s.zone + "/" + l.name
	}
	us := s.found[l][ours]
	for _, server := range s.servers {
		f := s.found[l][server.name]
		if f == nil {
			continue
		}
		b.Run(name+"/peer="+server.name, func(b *testing.B) {
			f.report(b)
			if server.name != ours {
				b.ReportMetric(ratio(us, f), "x/"+server.name)
			}
			b.ReportMetric(s.memory[server.name], "resident_MiB")
		})
	}
	if l.do {
		without := l
		without.do = false
		b.Run(name+"/peer=without", func(b *testing.B) {
			us.report(b)
			b.ReportMetric(ratio(us, s.found[without][ours]), "x/without")
		})
	}
}

func (f *sample) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // that of nothing
	b.ReportMetric(median(f.cpu), "cpu_us_per_query")
	b.ReportMetric(median(f.rate), "queries_per_s")
	b.ReportMetric(median(f.latency), "latency_us")
	b.ReportMetric(median(f.longest), "latency_max_us")
	b.ReportMetric(f.lost, "lost")
	b.ReportMetric(float64(len(f.cpu)), "rounds")
}
