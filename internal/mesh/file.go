package mesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"anycastle/internal/wholefile"
)

// The file: fileMagic, when it was saved (8 bytes, ms since 1970), the map as a message, CRC-32C of all that.
const (
	fileMagic = "anycastle mesh map 1\n"
	fileFixed = len(fileMagic) + 8 + 4

	saveAgain = 10 * time.Second // after a Save by Keep that did not work
)

// Save writes the map to path such that a crash at any moment leaves either the old file or the new one. The directory
// must exist.
func (m *Map) Save(path string) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	b := binary.BigEndian.AppendUint64([]byte(fileMagic), uint64(m.now().UnixMilli()))
	b = append(b, m.encode()...)
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	if err := wholefile.PutDurably(path, b); err != nil {
		return fmt.Errorf("save the mesh map: %w", err)
	}
	return nil
}

// Load takes the file's entries into the map, whatever their time. Without a file there is nothing to load: that is a first
// start, and no error. A file that is not whole is an error, and nothing of it is taken.
func (m *Map) Load(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load the mesh map: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(maxMessage+fileFixed+1)))
	if err != nil {
		return fmt.Errorf("load the mesh map: %w", err)
	}
	saved, es, err := decodeFile(b)
	if err != nil {
		return fmt.Errorf("load the mesh map: %s is damaged: %w; put a copy of it back, or remove it: what the other members have "+
			"comes from them, and what this one alone knew is lost", path, err)
	}
	m.takeLoaded(path, saved, es)
	return nil
}

func (m *Map) takeLoaded(path string, saved time.Time, es []entry) {
	now := m.now()
	if now.Sub(saved) > TombstoneLife {
		m.log.Warn("the saved mesh map is old: keys deleted since then may come back", "path", path, "saved", saved)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ahead int
	for _, e := range es {
		if e.stamp.wall > now.Add(MaxAhead).UnixMilli() {
			ahead++
		}
		// no put: the file is our own, and it keeps the bounds
		if old, known := m.entries[e.key]; !m.expired(e) && (!known || e.compare(old) > 0) && m.put(e) {
			m.wake()
		}
		m.clock.observe(e.stamp)
	}
	if ahead > 0 {
		m.log.Warn("the saved mesh map has changes from the future, which other members refuse: set this machine's clock; if it was "+
			"wrong then and is right now, stop this member, remove the file and start it", "path", path, "changes", ahead)
	}
}

func decodeFile(b []byte) (saved time.Time, es []entry, err error) {
	if len(b) < fileFixed || !bytes.HasPrefix(b, []byte(fileMagic)) {
		return saved, nil, errors.New("it does not begin as such a file does")
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if checksum(body) != binary.BigEndian.Uint32(sum) {
		return saved, nil, errors.New("its checksum is wrong")
	}
	body = body[len(fileMagic):]
	msg, err := decode(body[8:])
	if err == nil && msg.leave != "" {
		err = errors.New("it holds no map")
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(body))), msg.entries, err
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Keep saves the map to path now, after every change and at the end, until ctx is done. An error of the first Save is
// returned at once; a later one is logged, and the Save tried again.
func (m *Map) Keep(ctx context.Context, path string) error {
	changed, stop := m.Watch()
	defer stop()
	if err := m.Save(path); err != nil {
		return err
	}
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return m.Save(path)
		case <-changed:
		case <-again:
		}
		again = nil
		if err := m.Save(path); err != nil {
			m.log.Error("the mesh map would not survive a restart; trying on", "err", err)
			again = time.After(saveAgain)
		}
	}
}
