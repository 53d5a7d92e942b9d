package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// ErrNotRunning says that no process of the asked role answers on its socket.
var ErrNotRunning = errors.New("not running here")

// Get asks the role's process on this machine for path and decodes its JSON into v.
func Get(ctx context.Context, runDir, role, path string, v any) error {
	socket := SocketPath(runDir, role)
	client := http.Client{
		Timeout: socketTime,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+role+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", role, err)
	}
	res, err := client.Do(req)
	if err != nil && nobody(err) {
		return fmt.Errorf("%s is %w (no answer on %s)", role, ErrNotRunning, socket)
	}
	if err != nil {
		return fmt.Errorf("ask %s: %w", role, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("%s answered %s: %s", role, res.Status, text)
	}
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		return fmt.Errorf("read the answer of %s: %w", role, err)
	}
	return nil
}
