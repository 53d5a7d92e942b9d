package pcapng

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"
)

var (
	epoch = time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)
	opts  = Options{Application: "anycastle lb", Filter: "vip smtp", Snap: 64}
)

// testFrame is 61 bytes long, of which 1, 2, 3 ... are kept.
func testFrame(n int) Frame {
	f := Frame{Interface: n % 2, At: epoch.Add(time.Duration(n)), Data: bytes.Repeat([]byte{byte(n)}, n+1), Length: 61,
		Direction: In, Comment: strings.Repeat("c", n), Verdict: 3}
	if f.Interface == 1 {
		f.Direction = Out
	}
	return f
}

// testFile is a file of n frames with statistics before the first and after each.
func testFile(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, opts, Interface{"eth1 in", "as they came in by eth1"})
	check(t, err)
	id, err := w.AddInterface(Interface{Name: "eth1 out"})
	check(t, err)
	if id != 1 {
		t.Fatalf("the second interface has number %d", id)
	}
	for i := range n + 1 {
		for id := range 2 {
			check(t, w.WriteStats(id, Stats{Start: epoch, Until: epoch.Add(time.Duration(i)), Captured: uint64(i), Dropped: uint64(i * (2 - id))}))
		}
		if i < n {
			check(t, w.WriteFrame(testFrame(i)))
		}
	}
	check(t, w.Flush())
	return buf.Bytes()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read reads a file with the library's reader, which knows nothing of Copy, and holds its frames to those of testFrame.
func read(t *testing.T, file []byte) (frames int, stats []pcapgo.NgInterfaceStatistics) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	check(t, err)
	for {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		want := testFrame(frames)
		got := Frame{Interface: info.InterfaceIndex, At: info.Timestamp.UTC(), Data: data, Length: info.Length,
			Direction: Direction(options.Flags.Direction), Verdict: uint32(options.Verdicts[0].Data[0])}
		if len(options.Comments) > 0 {
			got.Comment = options.Comments[0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("frame %d (-want +got):\n%s", frames, diff)
		}
		frames++
	}
	for id := range r.NInterfaces() {
		i, err := r.Interface(id)
		check(t, err)
		if want := []string{"eth1 in", "eth1 out"}[id]; i.Name != want || i.SnapLength != 64 || i.Filter != "vip smtp" {
			t.Errorf("interface %+v, want %s", i, want)
		}
		stats = append(stats, i.Statistics)
	}
	return frames, stats
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	frames, stats := read(t, testFile(t, 61))
	if frames != 61 || len(stats) != 2 || stats[0].PacketsReceived != 61 || stats[0].PacketsDropped != 122 || stats[1].PacketsDropped != 61 {
		t.Errorf("%d frames, statistics %+v", frames, stats)
	}
}

// TestTcpdumpReads has the file go to tcpdump in a pipe.
func TestTcpdumpReads(t *testing.T) {
	cmd := exec.Command("tcpdump", "-r", "-", "-nn", "-tt", "--nano")
	cmd.Stdin = bytes.NewReader(testFile(t, 20))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for i := range 20 {
		if line := fmt.Sprintf("%d.%09d ", epoch.Unix(), epoch.Nanosecond()+i); !strings.Contains(string(out), line) {
			t.Errorf("no frame at %s in\n%s", line, out)
		}
	}
}

func TestCopy(t *testing.T) {
	file := testFile(t, 20)
	var got bytes.Buffer
	var last Progress
	calls := 0
	done, err := Copy(&got, bytes.NewReader(file), 1<<20, func(p Progress) { last = p; calls++ })
	check(t, err)
	if want := (Progress{Packets: 10, Frames: 20, Lost: 60, Bytes: int64(got.Len())}); done != want || last.Frames != 20 || calls < 20 {
		t.Errorf("done %+v, want %+v; last called with %+v, %d times", done, want, last, calls)
	}
	frames, stats := read(t, got.Bytes())
	if frames != 20 || stats[0].PacketsReceived != 20 || stats[0].PacketsDropped != 40 || stats[1].PacketsDropped != 20 {
		t.Errorf("%d frames, statistics %+v", frames, stats)
	}
	if got.Len() >= len(file) {
		t.Errorf("%d bytes from %d: the statistics before the last are still there", got.Len(), len(file))
	}
}

// TestCopyOfWhatEndsAnywhere cuts a file off at every byte, and fills the room for it at every byte.
func TestCopyOfWhatEndsAnywhere(t *testing.T) {
	file := testFile(t, 4)
	begin := len(testFile(t, 0))
	for n := begin; n < len(file); n++ {
		var got bytes.Buffer
		if _, err := Copy(&got, bytes.NewReader(file[:n]), 1<<20, func(Progress) {}); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
		if _, stats := read(t, got.Bytes()); len(stats) != 2 {
			t.Fatalf("cut off at %d: statistics %+v", n, stats)
		}
		got.Reset()
		done, err := Copy(&got, bytes.NewReader(file), int64(n), func(Progress) {})
		if got.Len() > n || int(done.Bytes) != got.Len() || err != nil && !errors.Is(err, ErrFull) {
			t.Fatalf("limit %d: %d bytes, told %+v, %v", n, got.Len(), done, err)
		}
		if _, stats := read(t, got.Bytes()); len(stats) != 2 {
			t.Fatalf("limit %d: statistics %+v", n, stats)
		}
	}
}

func TestCopyPassesErrorsOn(t *testing.T) {
	file := testFile(t, 3)
	boom := errors.New("boom")
	var got bytes.Buffer
	_, err := Copy(&got, io.MultiReader(bytes.NewReader(file), failing{boom}), 1<<20, func(Progress) {})
	if frames, _ := read(t, got.Bytes()); !errors.Is(err, boom) || frames != 3 {
		t.Errorf("reading fails: %v, %d frames", err, frames)
	}
	if _, err := Copy(failing{boom}, bytes.NewReader(file), 1<<20, func(Progress) {}); !errors.Is(err, boom) {
		t.Errorf("writing fails: %v", err)
	}
}

// failing fails to read and to write.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestCopyRefuses(t *testing.T) {
	file := testFile(t, 1)
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(file)
		f(b)
		return b
	}
	for _, tc := range []struct {
		name, want string
		in         []byte
	}{
		{"another thing", "no capture in pcapng", append([]byte{1, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0}, file...)},
		{"another byte order", "no capture in pcapng", change(func(b []byte) { b[8] = 0x1a })},
		{"text", "a block of", []byte("HTTP/1.1 200 OK, and so on")},
		{"a block of no bytes", "a block of 0 bytes", change(func(b []byte) { copy(b[4:], []byte{0, 0, 0, 0}) })},
		{"a block too large", "a block of 65532 bytes", change(func(b []byte) { copy(b[4:], []byte{252, 255, 0, 0}) })},
		{"another length at the end", "says", change(func(b []byte) { b[len(b)-4]++ })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Copy(io.Discard, bytes.NewReader(tc.in), 1<<20, func(Progress) {}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// FuzzCopy never writes more than the limit, and writes what a second copy leaves as it is.
func FuzzCopy(f *testing.F) {
	file := testFile(f, 5)
	f.Add(file, int64(1<<20))
	f.Add(file, int64(len(file)/2))
	f.Add(file[:len(file)-1], int64(1<<20))
	f.Fuzz(func(t *testing.T, in []byte, limit int64) {
		var once, twice bytes.Buffer
		done, _ := Copy(&once, bytes.NewReader(in), limit, func(Progress) {})
		if int64(once.Len()) > max(limit, 0) || done.Bytes != int64(once.Len()) {
			t.Fatalf("%d bytes with a limit of %d, told %+v", once.Len(), limit, done)
		}
		again, err := Copy(&twice, bytes.NewReader(once.Bytes()), limit, func(Progress) {})
		if err != nil || again != done || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Fatalf("a copy of a copy: %v, %+v after %+v", err, again, done)
		}
	})
}
