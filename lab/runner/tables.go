package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// smallTables has network namespaces that are made from this thread get hash tables of sockets of their own. Without them
// all share those of the machine, which are large: whoever lists the sockets of a node, as a real's agent does many times a
// second, would go through all of that each time. Only for a thread that ends: the setting is that of a namespace which the
// thread makes for it and which goes with the thread.
func smallTables() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a namespace to set socket tables in: %w", err)
	}
	for path, entries := range map[string]string{
		"/proc/sys/net/ipv4/tcp_child_ehash_entries": "2048", // Linux 6.1
		"/proc/sys/net/ipv4/udp_child_hash_entries":  "256",  // Linux 6.2
	} {
		if err := os.WriteFile(path, []byte(entries), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the size of socket tables: %w", err)
		}
	}
	return nil
}
