package lb

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"anycastle/internal/config"
	"anycastle/internal/daemon"
	"anycastle/lb/real"
)

// A goroutine cannot be kept in a namespace with all that it starts; a process can. So the tests that need a whole role
// in a namespace run this binary again there, with childEnv telling it what to be.
const childEnv = "ANYCASTLE_LB_TEST_CHILD"

// child is what such a process is told.
type child struct {
	Dir    string // of the node file, the status socket and the record of announcements
	PinDir string
	Role   string // lb or real
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == execProbe {
		if err := runExecProbe(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(serviceEnv); text != "" {
		if err := runService(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(childEnv); text != "" {
		if err := runChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runChild(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	doc, err := config.Load(c.Dir + "/node.yml")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p := daemon.Process{Role: c.Role, RunDir: c.Dir, Log: log}
	if c.Role == "real" {
		var cfg real.Config
		cfg.Validate(doc.Decode("real", &cfg))
		if err := doc.Err(); err != nil {
			return err
		}
		role, err := real.New(cfg, real.Options{Log: log, PinDir: c.PinDir})
		if err != nil {
			return err
		}
		p.Status = role.Status()
		return daemon.Run(context.Background(), p, role.Run)
	}
	var cfg Config
	cfg.Validate(doc.Decode("lb", &cfg))
	if err := doc.Err(); err != nil {
		return err
	}
	l, err := New(cfg, Options{Announcer: recorder(c.Dir + "/announced"), Log: log, PinDir: c.PinDir})
	if err != nil {
		return err
	}
	p.Status, p.Handlers = l.Status(), l.Handlers()
	p.Reload = func(ctx context.Context) error {
		doc, err := config.Load(c.Dir + "/node.yml")
		if err != nil {
			return err
		}
		var cfg Config
		cfg.Validate(doc.Decode("lb", &cfg))
		if err := doc.Err(); err != nil {
			return err
		}
		return l.Reload(ctx, cfg)
	}
	return daemon.Run(context.Background(), p, l.Run)
}

// recorder is an Announcer that leaves the last set in a file.
type recorder string

func (r recorder) Standing(p netip.Prefix) (announced bool, why string) {
	text, _ := os.ReadFile(string(r))
	return strings.Contains(string(text), `"`+p.String()+`"`), "enough reals in service"
}

func (r recorder) Set(_ context.Context, health []Health) error {
	prefixes, _ := fit(health)
	text, err := json.Marshal(prefixes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(string(r)+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(string(r)+".new", string(r))
}
