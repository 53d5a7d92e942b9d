package rhi

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/rhi/bfd"
)

var (
	soakTime   = flag.Duration("soak", time.Minute, "how long BenchmarkSoak goes on")
	soakReport = flag.String("report", "", "the file to which BenchmarkSoak writes its rows, as JSON")
)

// soakRow is what became of one session. A silence is the time between two packets of BFD on the node's link, as the kernel
// saw them.
type soakRow struct {
	Case           string  `json:"case"`
	Peer           string  `json:"peer"`
	Soak           float64 `json:"soak_s"`
	Busy           float64 `json:"cpu_busy_percent"`
	LoadAverage    float64 `json:"load_average"` // the highest of a minute; of the soak itself it is little more than the number of processors
	Detection      float64 `json:"detection_ms"`
	Downs          int     `json:"false_downs"`
	PeerDowns      int     `json:"peer_false_downs"` // as FRR counts and BIRD logs them
	BGPDowns       int     `json:"bgp_downs"`
	PeerBGPDowns   int     `json:"peer_bgp_downs"`
	Stalls         int     `json:"stalls"`
	LongestSilence float64 `json:"longest_silence_ms"`
	PeerSilence    float64 `json:"peer_longest_silence_ms"`
	PeerStalls     int     `json:"peer_stalls"`    // its silences that were as long as the detection time
	Noticed        float64 `json:"cut_noticed_ms"` // of the cut at the end
}

// BenchmarkSoak holds BFD and BGP with FRR and BIRD while all processors are busy: with a process for each that does nothing
// else, as other services of the host would, and with a goroutine of the node's own process that makes garbage. All have the
// same priority, so a daemon that wakes up waits for others, but not for long. Nothing may go down, neither in the node's eyes
// nor in those of FRR and BIRD; unless FRR or BIRD did send nothing for as long as that takes, which the wire shows. At the
// end the links are cut without a sign, and each of the counters must say so.
func BenchmarkSoak(b *testing.B) {
	b.Setenv(strainEnv, "1")
	s := newSoak(b)
	for range runtime.NumCPU() {
		burn(b)
	}
	eventually(b, "all sessions up at full load", soon, s.allUp)
	wire := listenOn(b, s.lb)
	load := newLoad(b)
	s.look()
	s.base = s.count()
	wire.begin()
	began := time.Now()
	for end := began.Add(*soakTime); time.Now().Before(end); {
		time.Sleep(min(time.Minute, time.Until(end)))
		s.look()
		ours, theirs := wire.worst(s.sessions)
		fmt.Printf("%v: %s; longest silence of ours %v, of theirs %v; processors %.0f%% busy, load average %.1f\n",
			time.Since(began).Round(time.Second), s.summary(), ours, theirs, load.busy(), load.average())
	}
	rows := s.rows(wire, time.Since(began), load)
	for _, r := range rows {
		if max(r.Downs, r.PeerDowns, r.BGPDowns, r.PeerBGPDowns) > r.PeerStalls || r.Busy < 95 {
			b.Errorf("%+v", r)
		}
	}
	if b.Failed() {
		b.Logf("BFD: %+v\nBGP: %+v", s.lb.bfd(), s.lb.status().Peers)
	}
	defer report(b, rows)
	s.cut(rows)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(rows)), "sessions")
	b.ReportMetric(time.Since(began).Minutes(), "min")
}

// report writes the rows to the file that was asked for, if one was.
func report(b *testing.B, rows []soakRow) {
	if *soakReport == "" {
		return
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err == nil {
		err = os.WriteFile(*soakReport, append(text, '\n'), 0o644)
	}
	if err != nil {
		b.Error(err)
	}
}

// summary is the sum of what the counters say that went wrong so far.
func (s *soak) summary() string {
	var sum soakCount
	for i, n := range s.count() {
		sum = sum.minus(s.base[i].minus(n))
	}
	return fmt.Sprintf("%d sessions; downs of BFD: %d here, %d there; of BGP: %d here, %d there; %d stalls",
		len(s.sessions), sum.downs, sum.peerDowns, sum.bgpDowns, sum.peerBGPDowns, sum.stalls)
}

func (s *soak) rows(w *wire, took time.Duration, l *load) (rows []soakRow) {
	for i, n := range s.count() {
		x, n := s.sessions[i], n.minus(s.base[i])
		ours, _ := w.silence(x.ours, 3*x.interval)
		theirs, stalls := w.silence(x.theirs, 3*x.interval)
		rows = append(rows, soakRow{
			Case: fmt.Sprintf("%s, %v x 3", x.family, x.interval), Peer: x.router.name,
			Soak: took.Round(time.Second).Seconds(), Busy: float64(int(l.busy()*10)) / 10, LoadAverage: l.highest, Detection: milliseconds(3 * x.interval),
			Downs: n.downs, PeerDowns: n.peerDowns, BGPDowns: n.bgpDowns, PeerBGPDowns: n.peerBGPDowns, Stalls: n.stalls,
			LongestSilence: milliseconds(ours), PeerSilence: milliseconds(theirs), PeerStalls: stalls,
		})
	}
	return rows
}

// cut has the node lose every packet, and holds that all counters of downs count it, so that they would have counted another.
func (s *soak) cut(rows []soakRow) {
	s.b.Helper()
	eventually(s.b, "all sessions up before the cut", soon, s.allUp)
	before := s.count()
	began := time.Now()
	s.lb.deafen()
	eventually(s.b, "all noticed", soon, func() bool {
		time.Sleep(100 * time.Millisecond)
		s.look()
		for i, n := range s.count() {
			if n = n.minus(before[i]); min(n.downs, n.peerDowns, n.bgpDowns, n.peerBGPDowns) == 0 {
				return false
			}
		}
		return true
	})
	for i, x := range s.sessions {
		st := s.bfd[x.name]
		if st.LastLoss.Diag != bfd.DetectionExpired {
			s.b.Errorf("%s: %+v", x.name, st.LastLoss)
		}
		rows[i].Noticed = milliseconds(st.Since.Sub(began))
	}
}

// burn keeps a processor busy from a process of its own, in a session of its own as services are, by which the kernel shares.
func burn(b *testing.B) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), burnEnv+"=1", "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe() // it ends with that
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
}

// load tells how busy the machine's processors were.
type load struct {
	b           *testing.B
	idle, total int
	highest     float64 // load average that was seen
}

func newLoad(b *testing.B) *load {
	l := &load{b: b}
	l.idle, l.total = l.read()
	return l
}

func (l *load) read() (idle, total int) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		l.b.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, word := range strings.Fields(line)[1:] {
		n := 0
		if _, err := fmt.Sscan(word, &n); err != nil {
			l.b.Fatal(err)
		}
		if i == 3 || i == 4 { // it waits for input at the second
			idle += n
		}
		total += n
	}
	return idle, total
}

// busy is a percentage, since the start.
func (l *load) busy() float64 {
	idle, total := l.read()
	return 100 - 100*float64(idle-l.idle)/float64(total-l.total)
}

// average gives the machine's load average of the last minute, by which one sees what else went on.
func (l *load) average() (now float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(text), &now)
	}
	if err != nil {
		l.b.Fatal(err)
	}
	l.highest = max(l.highest, now)
	return now
}
