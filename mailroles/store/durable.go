package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"anycastle/internal/wholefile"
)

// appendFile adds text to the end of a file durably. After an error the text may be there; on a full disk it is not,
// not even in part.
func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("append to file: %w", err)
	}
	st, err := f.Stat()
	if err == nil {
		if _, err = f.WriteString(text); err != nil {
			err = errors.Join(err, f.Truncate(st.Size()))
		}
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("append to file: %w", err)
	}
	return nil
}

// writeMessage writes and fsyncs a new file whose modification time is date. A body of another size than announced is
// ErrTruncated. On an error the file is gone.
func writeMessage(path string, body io.Reader, size int64, date time.Time) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(fmt.Errorf("write message: %w", err), os.Remove(path))
		}
	}()
	n, err := io.Copy(f, body)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%w: %d of %d bytes", ErrTruncated, n, size)
	}
	if err := os.Chtimes(path, date, date); err != nil {
		return err
	}
	return f.Sync()
}

// makeMaildir makes what is missing of tmp, new and cur, and makes durable what is there.
func makeMaildir(dir string) error {
	subs := []string{"tmp", "new", "cur"}
	for _, sub := range subs {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	for _, sub := range subs[1:] {
		if err := wholefile.SyncDir(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	return wholefile.SyncDir(dir)
}
