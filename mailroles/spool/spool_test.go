package spool

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestBodiesOfAllSizesComeBack(t *testing.T) {
	for _, size := range []int{0, 1, MemoryLimit - 1, MemoryLimit, MemoryLimit + 1, 3 * MemoryLimit} {
		dir := t.TempDir()
		text := strings.Repeat("0123456789", size/10+1)[:size]
		s, err := Fill(dir, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if s.Size() != int64(size) {
			t.Errorf("size is %d, want %d", s.Size(), size)
		}
		for range 2 {
			if got, err := io.ReadAll(s.Reader()); err != nil || string(got) != text {
				t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
			}
		}
		from, to := size/3, size/2
		got, err := io.ReadAll(s.Section(int64(from), int64(to-from)))
		if err != nil || string(got) != text[from:to] {
			t.Errorf("bytes %d to %d of %d came back as %.50q, %v", from, to, size, got, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("a body of %d bytes has the files %v, %v", size, left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// broken is a body that ends with an error.
type broken struct{ io.Reader }

var errBroken = errors.New("broken")

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = errBroken
	}
	return n, err
}

func TestBrokenBodyIsNotKept(t *testing.T) {
	for _, size := range []int{0, 2 * MemoryLimit} {
		dir := t.TempDir()
		s, err := Fill(dir, broken{strings.NewReader(strings.Repeat("x", size))})
		if !errors.Is(err, errBroken) || s != nil {
			t.Errorf("a body that broke after %d bytes gave %v, %v", size, s, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("it left %v, %v", left, err)
		}
	}
}
