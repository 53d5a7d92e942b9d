package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/pcapng"
	"anycastle/lb"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const captureLong = `Captures packets in the balancer's program and writes them as pcapng, for wireshark, tshark and
tcpdump: each as it came in, and as it left for a real or as an answer. Every uplink is two
interfaces of the file, such as "eth1 in" and "eth1 out". A frame's comment says what became of it
(forwarded to FARM/REAL, dropped: REASON, answered, passed to the kernel), its options have the
direction and the XDP verdict. Both frames of a packet have the time at which it came in.

--vip, --real and --reason select in the kernel, and a packet must be selected by all that are
given. Packets that go through no program are not seen: answers of reals, and the balancer's own
probes. What the balancer passes to the kernel of its machine is written as it came in.

It ends after --count packets, after --time, when the file would exceed --max-size, or on Ctrl-C,
with a whole file each time. Packets that came too fast to be copied are counted: at the end here,
and in the file's interface statistics. One capture runs at a time.`

const captureExample = `  anycastle capture -w all.pcapng
  anycastle capture --vip smtp --real smtp/mx1 --count 100 --bytes 2048 -w mx1.pcapng
  anycastle capture --reason any --time 10m -w drops.pcapng
  anycastle capture --vip 203.0.113.25 -w - | tcpdump -nn -r -`

// captureFlags are those of `capture`.
type captureFlags struct {
	runDir, file, maxSize string
	query                 lb.CaptureQuery
}

func newCapture(e env) *cobra.Command {
	f := &captureFlags{}
	cmd := &cobra.Command{
		Use:     "capture",
		Short:   "Write what comes in and what goes out to a pcapng file",
		Long:    captureLong,
		Example: captureExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := parseSize(f.maxSize)
			if err != nil {
				return usageError{fmt.Errorf("--max-size %s: %w", f.maxSize, err)}
			}
			if err := f.query.Validate(); err != nil {
				return usageError{err}
			}
			if f.file == "" {
				return usageError{errors.New("say where the capture is to go: -w FILE.pcapng, or -w - for standard output")}
			}
			if f.file == "-" && isTerminal(e.stdout) {
				return usageError{errors.New("a capture is no text for a terminal; give -w FILE.pcapng, or a pipe: `-w - | tcpdump -r -`")}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return f.run(ctx, e, limit)
		},
	}
	most, usual := lb.MostCaptured(), lb.DefaultCapture()
	flags := cmd.Flags()
	flags.StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	flags.StringVarP(&f.file, "write", "w", "", "the file; - is standard output")
	flags.StringVar(&f.query.VIP, "vip", "", "only packets for this VIP, by `NAME` or address")
	flags.StringVar(&f.query.Real, "real", "", "only packets that go to this real, as `FARM/REAL`, or would have")
	flags.StringVar(&f.query.Reason, "reason", "", "only packets dropped for this `REASON` of show drops, or for any")
	flags.IntVar(&f.query.Count, "count", usual.Count, fmt.Sprintf("end after so many packets that came in, at most %d", most.Count))
	flags.DurationVar(&f.query.Time, "time", usual.Time, fmt.Sprintf("end after this time, at most %v", most.Time))
	flags.IntVar(&f.query.Snap, "bytes", usual.Snap, fmt.Sprintf("kept of each frame, at most %d", most.Snap))
	flags.StringVar(&f.maxSize, "max-size", "64MB", "end before the file exceeds this, such as 500kB or 2GB")
	return cmd
}

// The bounds of a file's size. The least has room for the head of a capture by many uplinks.
const (
	leastFile = 10_000
	mostFile  = 1_000_000_000_000
)

// parseSize reads a size such as 64MB.
func parseSize(text string) (int64, error) {
	units := []struct {
		name  string
		bytes int64
	}{{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(strings.ToUpper(text), strings.ToUpper(u.name))
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > mostFile/u.bytes || n*u.bytes < leastFile {
			return 0, errors.New("want 10kB to 1000GB")
		}
		return n * u.bytes, nil
	}
	return 0, errors.New("want a number of kB, MB or GB")
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (f *captureFlags) run(ctx context.Context, e env, limit int64) (err error) {
	stream, err := daemon.Stream(ctx, f.runDir, "lb", http.MethodGet, f.query.Path(), nil)
	if err != nil {
		return err
	}
	defer stream.Close() // before the file is: nothing is captured for nobody
	out := e.stdout
	if f.file != "-" {
		// what others send may be nobody else's business
		file, err := os.OpenFile(f.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("make the file: %w", err)
		}
		defer func() {
			if cerr := file.Close(); err == nil && cerr != nil {
				err = fmt.Errorf("write the file: %w", cerr)
			}
		}()
		out = file
	}
	fmt.Fprintf(e.stderr, "capturing %v for %v; Ctrl-C ends it\n", f.query, f.query.Time)
	p := newCaptureProgress(e.stderr)
	done, err := pcapng.Copy(out, stream, limit, p.show)
	p.end()
	why := ""
	switch {
	case errors.Is(err, pcapng.ErrFull):
		why, err = fmt.Sprintf("the next would exceed --max-size %s", f.maxSize), nil
	case ctx.Err() != nil:
		why, err = "stopped", nil
	case err == nil && done.Packets >= uint64(f.query.Count):
		why = fmt.Sprintf("--count %d is reached", f.query.Count)
	case err == nil:
		why = fmt.Sprintf("--time %v is over", f.query.Time)
	case errors.Is(err, io.ErrUnexpectedEOF):
		why, err = "cut off", errors.New("the balancer has ended the capture before its time; its log says why")
	default:
		why = "failed"
	}
	fmt.Fprintf(e.stderr, "%s; %s\n", captured(done), why)
	if done.Lost > 0 {
		fmt.Fprintf(e.stderr, "%d packets came too fast and are missing; select fewer, or keep less of each with --bytes\n", done.Lost)
	}
	return err
}

func captured(p pcapng.Progress) string {
	return fmt.Sprintf("%d packets captured, %d frames, %d bytes", p.Packets, p.Frames, p.Bytes)
}

// progressEvery is how often progress is shown.
const progressEvery = time.Second

// captureProgress shows how far a capture is, in one line of a terminal or in one now and then.
type captureProgress struct {
	out      io.Writer
	terminal bool
	last     time.Time
	shown    pcapng.Progress
}

func newCaptureProgress(out io.Writer) *captureProgress {
	return &captureProgress{out: out, terminal: isTerminal(out), last: time.Now()}
}

func (p *captureProgress) show(now pcapng.Progress) {
	if time.Since(p.last) < progressEvery || now == p.shown {
		return
	}
	p.last, p.shown = time.Now(), now
	if p.terminal {
		fmt.Fprintf(p.out, "\r%s ", captured(now))
		return
	}
	fmt.Fprintln(p.out, captured(now))
}

// end leaves the line.
func (p *captureProgress) end() {
	if p.terminal && p.shown != (pcapng.Progress{}) {
		fmt.Fprintln(p.out)
	}
}
