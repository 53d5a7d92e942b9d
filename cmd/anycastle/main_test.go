package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/mtlstest"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"anycastle": main, "boxed": boxed})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// outcome runs a command in this process.
func outcome(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), env{strings.NewReader(""), &out, &errs}, args)
	return code, out.String(), errs.String()
}

func TestEveryCommandExplainsItself(t *testing.T) {
	root := newRoot(env{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}})
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "completion" || c.Name() == "help" {
			return
		}
		if c.Short == "" {
			t.Errorf("%s has no short help", c.CommandPath())
		}
		code, out, _ := outcome(t, append(strings.Fields(c.CommandPath())[1:], "--help")...)
		if code != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: exit %d, output %q", c.CommandPath(), code, out)
		}
		for line := range strings.Lines(out) {
			if len(strings.TrimRight(line, "\n")) > 132 {
				t.Errorf("%s --help has a line of %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// The first help names all that a verb is about.
func TestFirstHelp(t *testing.T) {
	_, out, _ := outcome(t, "--help")
	for _, verb := range []string{"drain", "suspend", "activate"} {
		if !regexp.MustCompile(`(?m)^  ` + verb + ` .*a real, an answer or a site`).MatchString(out) {
			t.Errorf("of %s it does not name reals, answers and sites:\n%s", verb, out)
		}
	}
	if !regexp.MustCompile(`(?m)^  explain .*packet.*VIP.*name`).MatchString(out) {
		t.Errorf("of explain it does not name packets, VIPs and names:\n%s", out)
	}
}

func TestWrongArgumentsAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"vip"}, {"lab", "drain"}, {"lab", "up"}, {"show", "vip", "smtp", "imap"}, {"mail", "pop"}, {"check"}, {"lab", "status", "-o", "xml"}} {
		if code, _, errs := outcome(t, args...); code != exitUsage || errs == "" {
			t.Errorf("anycastle %s: exit %d, want %d; says %q", strings.Join(args, " "), code, exitUsage, errs)
		}
	}
}

// Every YAML block of a README is a node file that check accepts, or a mailboxes file that a node accepts; every command line
// exists with its flags, and every make target too. The lab's own commands are run for real by lab's test.
func TestReadmesSpeakTheTruth(t *testing.T) {
	small, err := filepath.Glob("../../lab/topo/*/README.md")
	if err != nil || len(small) < 4 {
		t.Fatalf("the topologies have the READMEs %v: %v", small, err)
	}
	names := []string{"README.md", "lab/README.md"}
	for _, name := range small {
		names = append(names, strings.TrimPrefix(name, "../../"))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("../..", name))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks(string(text)) {
				switch {
				case b.kind == "yaml" && strings.HasPrefix(b.text, "mailboxes:"):
					checkNodeFile(t, mailboxesNode, b.text)
				case b.kind == "yaml":
					checkNodeFile(t, b.text, "mailboxes: []\n")
				case b.kind == "sh":
					for line := range strings.Lines(b.text) {
						checkCommand(t, strings.TrimSpace(line))
					}
				}
			}
			for _, m := range regexp.MustCompile("`(anycastle [^`]+)`").FindAllStringSubmatch(string(text), -1) {
				checkCommand(t, m[1])
			}
			for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(text), -1) {
				if _, err := os.Stat(filepath.Join("../..", filepath.Dir(name), m[1])); err != nil {
					t.Errorf("link to %s leads nowhere", m[1])
				}
			}
		})
	}
}

// What a service user can mend itself does not ask for root.
func TestHintOfRights(t *testing.T) {
	denied := fmt.Errorf("bind: %w", os.ErrPermission)
	for _, tc := range []struct {
		err  error
		uid  int
		want string
	}{
		{denied, 1000, "; this needs root: run it again with sudo"},
		{denied, 0, ""},
		{errors.New("no zone"), 1000, ""},
		{fmt.Errorf("write orders: %w; let this user write there, or give another directory with gss.state_dir", os.ErrPermission), 1000, ""},
	} {
		if got := hint(tc.err, tc.uid); got != tc.want {
			t.Errorf("%v as user %d: %q", tc.err, tc.uid, got)
		}
	}
}

type block struct{ kind, text string }

func blocks(text string) []block {
	var list []block
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```").FindAllStringSubmatch(text, -1) {
		list = append(list, block{m[1], m[2]})
	}
	return list
}

// mailboxesNode is a node file that names a mailboxes file.
const mailboxesNode = `mail:
  directory: /etc/anycastle/mailboxes.yml
  tls: {cert: /etc/anycastle/tls/node.pem, key: /etc/anycastle/tls/node.key, ca: /etc/anycastle/tls/ca.pem}
  luns:
    - {name: lun-east, lmtp: 198.51.100.19:2424, imap: 198.51.100.19:1993}
  imap: {}
`

// checkNodeFile has a node file checked, with files in the places that it names.
func checkNodeFile(t *testing.T, text, mailboxes string) {
	t.Helper()
	ca := mtlstest.NewCA(t)
	made := ca.Node(t, "node") // node.pem, node.key and ca.pem
	ca.Node(t, "public")
	dir := t.TempDir()
	lun := filepath.Join(dir, "lun-east")
	if err := os.Mkdir(lun, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"mailboxes.yml": mailboxes, "secret": "a password\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text = strings.NewReplacer("/etc/anycastle/tls/", filepath.Dir(made.CA)+"/", "/etc/anycastle/dkim.pem", dkimKey(t, dir),
		"/etc/anycastle/", dir+"/", "/var/lib/anycastle/lun-east", lun, "/var/lib/anycastle #", dir+" #").Replace(text)
	file := filepath.Join(dir, "node.yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := outcome(t, "check", file); code != 0 {
		t.Errorf("a file of the README is refused: %s\n%s%s", errs, text, mailboxes)
	}
}

// dkimKey makes a key that messages can be signed with.
func dkimKey(t *testing.T, dir string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "dkim.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// upper stands for what the reader fills in, such as FILE or DIR.
var upper = regexp.MustCompile(`^[A-Z]+(\|[A-Z]+)*$`)

func checkCommand(t *testing.T, line string) {
	t.Helper()
	line, behind, piped := strings.Cut(line, " | ")
	if piped {
		checkCommand(t, behind)
	}
	words := strings.Fields(strings.TrimPrefix(line, "sudo "))
	if len(words) == 0 {
		return
	}
	switch filepath.Base(words[0]) {
	case "anycastle":
		checkOurs(t, line, words[1:])
	case "make":
		args := slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return strings.Contains(w, "=") })
		cmd := exec.Command("make", append([]string{"-n", "-C", "../.."}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	case "tcpdump", "bash", "vtysh": // not ours
	default:
		t.Errorf("%s: this test knows no command %s", line, words[0])
	}
}

// checkOurs finds the command and parses its flags and arguments without running it.
func checkOurs(t *testing.T, line string, words []string) {
	t.Helper()
	inner := slices.Index(words, "--")
	if inner >= 0 {
		checkCommand(t, strings.Join(words[inner+1:], " "))
	}
	var alternatives []string
	for i, w := range words {
		if strings.Contains(w, "|") && !upper.MatchString(w) && (inner < 0 || i < inner) {
			alternatives = strings.Split(w, "|")
			words = slices.Clone(words)
			words[i] = alternatives[0]
		}
	}
	root := newRoot(env{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}})
	root.InitDefaultCompletionCmd(words...)
	cmd, rest, err := root.Find(words)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil || cmd == root {
		t.Errorf("%s: %v", line, err)
	}
}
