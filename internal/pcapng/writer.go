package pcapng

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Direction is that of a frame as its interface sees it.
type Direction uint8

// The directions.
const (
	In  Direction = 1
	Out Direction = 2
)

// Interface is where frames were captured. Frames of a file are Ethernet.
type Interface struct {
	Name, Description string
}

// Frame is one frame as it is written.
type Frame struct {
	Interface int // as it was added, from 0
	At        time.Time
	Data      []byte // the beginning of the frame
	Length    int    // of the whole frame
	Direction Direction
	Comment   string
	Verdict   uint32 // of the XDP program
}

// Stats are what became of an interface's frames.
type Stats struct {
	Start, Until      time.Time
	Captured, Dropped uint64 // Dropped: asked for, and there was no room for them
}

// Options describe a whole file.
type Options struct {
	Application string // that makes it
	Filter      string // what was asked for
	Snap        int    // bytes kept of each frame; readers want it the same for all interfaces
}

// Writer writes a file. Nothing is complete before Flush. It is for one goroutine at a time.
type Writer struct {
	ng   *pcapgo.NgWriter
	opts Options
}

// NewWriter begins a file with one interface, which has number 0.
func NewWriter(w io.Writer, opts Options, first Interface) (*Writer, error) {
	p := &Writer{opts: opts}
	ng, err := pcapgo.NewNgWriterInterface(w, p.describe(first), pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: opts.Application,
	}})
	if err != nil {
		return nil, fmt.Errorf("begin a capture file: %w", err)
	}
	p.ng = ng
	return p, nil
}

func (p *Writer) describe(i Interface) pcapgo.NgInterface {
	return pcapgo.NgInterface{Name: i.Name, Description: i.Description, Filter: p.opts.Filter, OS: runtime.GOOS,
		LinkType: layers.LinkTypeEthernet, SnapLength: uint32(p.opts.Snap)}
}

// AddInterface adds one more interface, at any time before its first frame, and gives its number.
func (p *Writer) AddInterface(i Interface) (int, error) { return p.ng.AddInterface(p.describe(i)) }

// WriteFrame adds a frame.
func (p *Writer) WriteFrame(f Frame) error {
	info := gopacket.CaptureInfo{Timestamp: f.At, CaptureLength: len(f.Data), Length: f.Length, InterfaceIndex: f.Interface}
	verdict := binary.LittleEndian.AppendUint64(nil, uint64(f.Verdict)) // the file's byte order
	opts := pcapgo.NgPacketOptions{
		Flags:    &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlag(f.Direction)},
		Verdicts: []pcapgo.NgEpbVerdict{{Type: pcapgo.NgEpbVerdictTypeLinuxeBPFXDP, Data: verdict}},
	}
	if f.Comment != "" {
		opts.Comments = []string{f.Comment}
	}
	return p.ng.WritePacketWithOptions(info, f.Data, opts)
}

// WriteStats adds what is known of an interface's frames by now. The last of an interface counts.
func (p *Writer) WriteStats(iface int, s Stats) error {
	return p.ng.WriteInterfaceStats(iface, pcapgo.NgInterfaceStatistics{
		LastUpdate: s.Until, StartTime: s.Start, EndTime: s.Until, PacketsReceived: s.Captured, PacketsDropped: s.Dropped,
	})
}

// Flush hands all that was written to the io.Writer.
func (p *Writer) Flush() error { return p.ng.Flush() }
