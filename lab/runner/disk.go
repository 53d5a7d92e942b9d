package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

const (
	// dataDir is where a node keeps its data, and where its disk is mounted when it has one.
	dataDir = "/var/lib/anycastle"
	// filler is the file that fills a disk.
	filler = dataDir + "/.filled"
)

// FillDisk takes every free byte of the node's disk, so that the next write finds no space. The node needs the label
// topology.DiskLabel: without a disk of its own it would be the host's that is filled.
func (l *Lab) FillDisk(ctx context.Context, node string) error {
	return l.call(ctx, node, request{Op: opFill})
}

// FreeDisk undoes FillDisk, and may be repeated.
func (l *Lab) FreeDisk(ctx context.Context, node string) error {
	return l.call(ctx, node, request{Op: opFree})
}

// withoutDisk leaves out the bind in whose place a node's disk is.
func withoutDisk(n topology.Node) []topology.Bind {
	if n.Disk == 0 {
		return n.Binds
	}
	return slices.DeleteFunc(slices.Clone(n.Binds), func(b topology.Bind) bool { return b.Target == dataDir })
}

// mountDisk gives the node its disk: a file system in memory, which vanishes with the node's other mounts.
func mountDisk(size int64) error {
	if size == 0 {
		return nil
	}
	if err := mountPoint(dataDir, true); err != nil {
		return fmt.Errorf("make room for the disk: %w", err)
	}
	return mount("tmpfs", dataDir, unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=0755,size=%d", size))
}

func (n *nodeInit) fill() (err error) {
	if n.spec.Node.Disk == 0 {
		return fmt.Errorf("the node has no disk of its own; give it the label `%s: 96M`", topology.DiskLabel)
	}
	f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		_, err := f.Write(chunk)
		if errors.Is(err, unix.ENOSPC) {
			chunk = chunk[:len(chunk)/2] // down to the last byte
		} else if err != nil {
			return fmt.Errorf("fill disk: %w", err)
		}
	}
	return nil
}

func (n *nodeInit) free() error {
	if err := os.Remove(filler); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free %s: %w", filepath.Dir(filler), err)
	}
	return nil
}
