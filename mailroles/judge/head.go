package judge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Bounds of a header; they are those of package milter. What reads it takes some hundred bytes for each field.
const (
	maxHead   = 1 << 20 // bytes
	maxFields = 10000
)

// checkHead refuses a message whose header would fill the memory.
func checkHead(msg io.Reader) error {
	r := bufio.NewReader(io.LimitReader(msg, maxHead+1))
	size, fields := 0, 0
	for begins := true; ; {
		part, err := r.ReadSlice('\n')
		size += len(part)
		if begins && string(part) == "\r\n" || err == io.EOF && size <= maxHead {
			return nil
		}
		if begins && len(part) > 0 && part[0] != ' ' && part[0] != '\t' {
			fields++
		}
		if size > maxHead || fields > maxFields {
			return errLargeHead
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read message: %w", err)
		}
		begins = err == nil
	}
}
