package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycastle/internal/pcapng"

	"github.com/gopacket/gopacket/pcapgo"
)

// capturing answers as the balancer does: packets until told otherwise, with statistics, and then what end does.
func capturing(t *testing.T, packets int, end func(w http.ResponseWriter, r *http.Request)) (runDir string, asked *string) {
	t.Helper()
	asked = new(string)
	return serveRole(t, "lb", "GET /v1/capture", func(w http.ResponseWriter, r *http.Request) {
		*asked = r.URL.RawQuery
		out, err := pcapng.NewWriter(w, pcapng.Options{Snap: 256}, pcapng.Interface{Name: "eth1 in"})
		if err != nil {
			t.Error(err)
			return
		}
		for i := 0; i < packets && err == nil; i++ { // an error: the reader has enough
			f := pcapng.Frame{At: time.Unix(int64(i), 0), Data: []byte("frame"), Length: 5, Direction: pcapng.In}
			err = errors.Join(out.WriteFrame(f), out.WriteStats(0, pcapng.Stats{Captured: uint64(i + 1), Dropped: uint64(i)}))
		}
		if err == nil {
			_ = errors.Join(out.Flush(), http.NewResponseController(w).Flush())
		}
		end(w, r)
	}), asked
}

func ends(http.ResponseWriter, *http.Request) {}

// packetsIn reads a capture to its end.
func packetsIn(t *testing.T, file io.Reader) int {
	t.Helper()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if _, _, err := r.ReadPacketData(); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Fatalf("packet %d: %v", n, err)
		}
	}
}

func TestCaptureWritesAFile(t *testing.T) {
	dir, asked := capturing(t, 3, ends)
	file := filepath.Join(t.TempDir(), "all.pcapng")
	code, out, errs := outcome(t, "capture", "--run-dir", dir, "-w", file, "--vip", "smtp", "--real", "smtp/mx1", "--reason", "any",
		"--count", "3", "--time", "5s", "--bytes", "99")
	if code != 0 || out != "" || *asked != "count=3&real=smtp%2Fmx1&reason=any&snap=99&time=5s&vip=smtp" {
		t.Errorf("exit %d, output %q, asked for %q", code, out, *asked)
	}
	for _, want := range []string{
		"capturing vip smtp, real smtp/mx1, reason any for 5s; Ctrl-C ends it\n",
		"3 packets captured, 3 frames, ", "; --count 3 is reached\n", "2 packets came too fast and are missing;",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("says %q, without %q", errs, want)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := packetsIn(t, bytes.NewReader(text)); n != 3 {
		t.Errorf("%d packets in the file", n)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", info.Mode(), err)
	}
}

func TestCaptureWritesToAPipe(t *testing.T) {
	dir, asked := capturing(t, 7, ends)
	code, out, errs := outcome(t, "capture", "--run-dir", dir, "-w", "-")
	if n := packetsIn(t, strings.NewReader(out)); code != 0 || n != 7 || !strings.Contains(errs, "; --time 1m0s is over\n") {
		t.Errorf("exit %d, %d packets, says %q", code, n, errs)
	}
	if *asked != "count=10000&snap=256&time=1m0s" {
		t.Errorf("asked for %q by default", *asked)
	}
}

// TestCaptureEndsWhole holds a capture that does not end by itself to a whole file.
func TestCaptureEndsWhole(t *testing.T) {
	left := make(chan struct{}, 1)
	stay := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); left <- struct{}{} }
	t.Run("Ctrl-C", func(t *testing.T) {
		dir, _ := capturing(t, 4, stay)
		ctx, interrupt := context.WithCancel(t.Context()) // as a signal does
		var out notified
		var errs bytes.Buffer
		out.frames, out.then = 4, interrupt
		code := run(ctx, env{strings.NewReader(""), &out, &errs}, []string{"capture", "--run-dir", dir, "-w", "-"})
		if n := packetsIn(t, &out.Buffer); code != 0 || n != 4 || !strings.Contains(errs.String(), "4 packets captured, 4 frames, ") || !strings.HasSuffix(errs.String(), "with --bytes\n") {
			t.Errorf("exit %d, %d packets, says %q", code, n, &errs)
		}
		<-left
	})
	t.Run("max-size", func(t *testing.T) {
		dir, _ := capturing(t, 1000, stay)
		code, out, errs := outcome(t, "capture", "--run-dir", dir, "-w", "-", "--max-size", "10kB")
		if n := packetsIn(t, strings.NewReader(out)); code != 0 || n < 50 || len(out) > 10_000 || len(out) < 9_800 || !strings.Contains(errs, "the next would exceed --max-size 10kB") {
			t.Errorf("exit %d, %d packets in %d bytes, says %q", code, n, len(out), errs)
		}
		<-left
	})
	t.Run("the balancer ends", func(t *testing.T) {
		dir, _ := capturing(t, 5, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		code, out, errs := outcome(t, "capture", "--run-dir", dir, "-w", "-")
		if n := packetsIn(t, strings.NewReader(out)); code != exitFailed || n != 5 || !strings.Contains(errs, "has ended the capture before its time") {
			t.Errorf("exit %d, %d packets, says %q", code, n, errs)
		}
	})
}

// notified calls then when it holds so many frames.
type notified struct {
	bytes.Buffer
	frames int
	then   func()
}

func (n *notified) Write(p []byte) (int, error) {
	defer func() {
		if strings.Count(n.String(), "frame") >= n.frames {
			n.then()
		}
	}()
	return n.Buffer.Write(p)
}

func TestCaptureThatIsRefusedLeavesTheFileAlone(t *testing.T) {
	dir := serveRole(t, "lb", "GET /v1/capture", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `there is no vip "pop"; there are: imap, smtp`, http.StatusUnprocessableEntity)
	})
	file := filepath.Join(t.TempDir(), "old.pcapng")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := outcome(t, "capture", "--run-dir", dir, "--vip", "pop", "-w", file)
	if text, err := os.ReadFile(file); code != exitFailed || errs != "there is no vip \"pop\"; there are: imap, smtp\n" || string(text) != "old" {
		t.Errorf("exit %d, says %q; the file has %q, %v", code, errs, text, err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"64MB": 64e6, "500kB": 500e3, "2GB": 2e9, "10000B": 10000, "10kb": 10e3, "1000 GB": 1e12,
		"64": 0, "9kB": 0, "-64MB": 0, "MB": 0, "1.5MB": 0, "1001GB": 0, "9223372036854775807GB": 0, "64MiB": 0, "": 0,
	} {
		if got, err := parseSize(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}
