package probe

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestHTTP(t *testing.T) {
	conf, files := certificates(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "host %s, agent %s", r.Host, r.UserAgent())
	})
	mux.HandleFunc("HEAD /queue", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /queue", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.RawQuery) })
	mux.HandleFunc("/old", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", maxBody-4)+"in.."+"out")
	})
	mux.HandleFunc("/half", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half of")
	})
	plain := httptest.NewUnstartedServer(mux)
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain.Start()
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(mux)
	secure.TLS, secure.EnableHTTP2, secure.Config.ErrorLog = conf, true, log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)

	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"plain":           {Config{Type: "http"}, ""},
		"host by default": {Config{Type: "http", Body: "host 127.0.0.1:"}, ""},
		"host":            {Config{Type: "http", Host: "www.example.org", Body: "host www.example.org, agent anycastle-probe"}, ""},
		"method and path": {Config{Type: "http", Method: "HEAD", Path: "/queue", Status: []int{200, 204}}, ""},
		"query":           {Config{Type: "http", Path: "/queue?a=%20b", Body: "a=%20b"}, ""},
		"status":          {Config{Type: "http", Path: "/none"}, "status 404 Not Found, want 200"},
		"statuses":        {Config{Type: "http", Path: "/none", Status: []int{200, 204}}, "status 404 Not Found, want one of [200 204]"},
		"redirect":        {Config{Type: "http", Path: "/old", Status: []int{302}}, ""},
		"interim":         {Config{Type: "http", Path: "/early"}, ""},
		"body":            {Config{Type: "http", Path: "/queue?abc", Body: "abd"}, `"abd" is not in the first 3 bytes of the body`},
		"body at the end": {Config{Type: "http", Path: "/long", Body: "in.."}, ""},
		"body beyond":     {Config{Type: "http", Path: "/long", Body: "out"}, `"out" is not in the first 65536 bytes of the body`},
		"half a body":     {Config{Type: "http", Path: "/half", Body: "whole"}, "body: closed early"},
		"half is enough":  {Config{Type: "http", Path: "/half", Body: "half"}, ""},
		"TLS":             {Config{Type: "https", CA: files.CA, Host: "mx.example.org:8443", Body: "host mx.example.org:8443"}, ""},
		"TLS, other name": {Config{Type: "https", CA: files.CA, Host: "mx.example.org", ServerName: "www.example.org"}, "handshake: tls: failed to verify certificate: x509: certificate is valid for mx.example.org, not"},
		"TLS, believed":   {Config{Type: "https", Insecure: true}, ""},
		"TLS, status":     {Config{Type: "https", Insecure: true, Path: "/none"}, "status 404 Not Found, want 200"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tc.config
			cfg.Timeout = long
			server := plain
			if cfg.Type == "https" {
				server = secure
			}
			addr := netip.MustParseAddrPort(server.Listener.Addr().String())
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

func TestHTTPStatusLineIsEscaped(t *testing.T) {
	addr := serve(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 500 \x1b[2J"+strings.Repeat("\u202e", 100)+"\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	cfg := Config{Type: "http", Timeout: long}
	_, err := try(t.Context(), t, cfg, addr)
	wants(t, err, cfg, addr, `status 500 \x1b[2J\u{202e}`)
}
