package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// MemoryLimit is the size in bytes up to which a body stays in memory.
const MemoryLimit = 64 << 10

// Spool is one body. It is written once by Fill and may then be read many times, also concurrently.
type Spool struct {
	mem  []byte
	file *os.File // nil while the body fits into memory
	size int64
}

// Fill reads r to its end. On an error nothing is kept and nothing has to be closed. dir is where a large body
// goes; the system's temporary folder when empty.
func Fill(dir string, r io.Reader) (*Spool, error) {
	var head bytes.Buffer
	n, err := io.Copy(&head, io.LimitReader(r, MemoryLimit))
	if err != nil {
		return nil, err
	}
	s := &Spool{mem: head.Bytes(), size: n}
	if n < MemoryLimit {
		return s, nil
	}
	if err := s.spill(dir, r); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Spool) spill(dir string, r io.Reader) error {
	f, err := os.CreateTemp(dir, "anycastle-spool-")
	if err != nil {
		return fmt.Errorf("make spool file: %w", err)
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("unlink spool file: %w", err)
	}
	if _, err := f.Write(s.mem); err != nil {
		return fmt.Errorf("write spool file: %w", err)
	}
	s.mem = nil
	n, err := io.Copy(f, r)
	s.size += n
	return err
}

// Size gives the length of the body in bytes.
func (s *Spool) Size() int64 { return s.size }

// Reader gives a new reader at the start of the body.
func (s *Spool) Reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.mem)
	}
	return s.Section(0, s.size)
}

// Section gives a reader of n bytes of the body from an offset, in bytes.
func (s *Spool) Section(offset, n int64) io.Reader {
	if s.file == nil {
		return io.NewSectionReader(bytes.NewReader(s.mem), offset, n)
	}
	return io.NewSectionReader(s.file, offset, n)
}

// Close frees the body. No Reader may be used after it.
func (s *Spool) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
