package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// ErrNotRunning says that no process of the asked role answers on its socket.
var ErrNotRunning = errors.New("not running here")

// RefusedError says that the role understood what it was asked and will not do it. Its text is for the one who asked.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// Get asks the role's process on this machine for path and decodes its JSON into v.
func Get(ctx context.Context, runDir, role, path string, v any) error {
	return call(ctx, runDir, role, http.MethodGet, path, nil, v)
}

// Post sends in as JSON, and decodes the answer into out unless that is nil. What the role refuses is a RefusedError.
func Post(ctx context.Context, runDir, role, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask %s: %w", role, err)
	}
	return call(ctx, runDir, role, http.MethodPost, path, text, out)
}

func call(ctx context.Context, runDir, role, method, path string, in []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	body, err := Stream(ctx, runDir, role, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", role, err)
	}
	return nil
}

// callTime bounds a request that is answered at once: longer than the server's own bound, whose error says more.
const callTime = 2 * socketTime

// Stream asks and gives the answer as it comes, until ctx is done or the caller closes it.
func Stream(ctx context.Context, runDir, role, method, path string, in []byte) (io.ReadCloser, error) {
	socket := SocketPath(runDir, role)
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+role+path, bytes.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", role, err)
	}
	res, err := client.Do(req)
	if err != nil && nobody(err) {
		return nil, fmt.Errorf("%s is %w (no answer on %s)", role, ErrNotRunning, socket)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", role, err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	if res.StatusCode == http.StatusUnprocessableEntity {
		return nil, &RefusedError{Text: strings.TrimSpace(string(text))}
	}
	return nil, fmt.Errorf("%s answered %s: %s", role, res.Status, text)
}
