package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// Zones that were transferred are kept as files, one each, named after the zone. A file has a line that says what it is, and
// then the records as in a message: names whole, each record after four bytes with its length, and a length of 0. When the
// zone was last known to be that of its primaries is the file's time of modification, so a refresh that finds nothing newer
// writes no zone.

const magic = "anycastle zone 1\n"

// maxRecord is how long a record may be: a name, what is fixed, and data.
const maxRecord = 255 + fixedSize + 65535

// save writes a zone to its file, which is always the old or the new. It has replace, such as os.Rename, put the new in its place.
func save(dir string, z *zone.Zone, refreshed time.Time, replace func(temporary, path string) error) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriter(f)
	err = write(w, z)
	err = errors.Join(err, w.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Chtimes(f.Name(), refreshed, refreshed)
	}
	if err == nil {
		err = replace(f.Name(), fileOf(dir, z.Origin()))
	}
	return err
}

// fileOf gives a file's path; what means something in paths is escaped.
func fileOf(dir, origin string) string { return filepath.Join(dir, url.PathEscape(bare(origin))) }

func write(w io.Writer, z *zone.Zone) error {
	if _, err := io.WriteString(w, magic); err != nil {
		return err
	}
	buf := make([]byte, 4+maxRecord)
	for rr := range z.All(nil) {
		n, err := dns.PackRR(rr, buf, 4, nil, false)
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint32(buf, uint32(n-4))
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
	_, err := w.Write(make([]byte, 4))
	return err
}

// load reads the zone that save wrote; fs.ErrNotExist if there is none.
func load(dir, origin string) (z *zone.Zone, refreshed time.Time, err error) {
	f, err := os.Open(fileOf(dir, origin))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		z, err = read(bufio.NewReader(f), origin)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return z, info.ModTime(), nil
}

var errNoZone = errors.New("it is no file of a zone, or damaged")

// read reads what write wrote.
func read(r io.Reader, origin string) (*zone.Zone, error) {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, errNoZone
	}
	var failed error
	z, err := zone.Build(origin, func(yield func(dns.RR) bool) {
		var buf []byte
		for {
			var rr dns.RR
			if rr, buf, failed = readRecord(r, buf); failed != nil || rr == nil || !yield(rr) {
				return
			}
		}
	})
	if failed != nil {
		return nil, failed
	}
	return z, err
}

// readRecord gives the next record; nil at the end.
func readRecord(r io.Reader, buf []byte) (dns.RR, []byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, buf, errNoZone
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 {
		if _, err := io.ReadFull(r, size[:1]); !errors.Is(err, io.EOF) {
			return nil, buf, errNoZone
		}
		return nil, buf, nil
	}
	if n > maxRecord {
		return nil, buf, errNoZone
	}
	buf = append(buf[:0], make([]byte, n)...)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, buf, errNoZone
	}
	rr, end, err := dns.UnpackRR(buf, 0)
	if err != nil || end != int(n) {
		return nil, buf, errNoZone
	}
	return rr, buf, nil
}

// touch keeps the time of a refresh that found nothing newer.
func touch(dir, origin string, refreshed time.Time) error {
	return os.Chtimes(fileOf(dir, origin), refreshed, refreshed)
}

// forget removes the file of a zone.
func forget(dir, origin string) error {
	if err := os.Remove(fileOf(dir, origin)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
