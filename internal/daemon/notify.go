package daemon

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// notifyEnv names the socket of a service manager that wants to know how its service stands (sd_notify(3)).
const notifyEnv = "NOTIFY_SOCKET"

// notify tells the service manager, if there is one, such as "READY=1".
func notify(state string) error {
	path := os.Getenv(notifyEnv)
	if path == "" {
		return nil
	}
	if name, ok := strings.CutPrefix(path, "@"); ok {
		path = "\x00" + name // of no file
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	return nil
}
