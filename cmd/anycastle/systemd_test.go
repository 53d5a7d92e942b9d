package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/netnstest"
)

// worstExposure is what `systemd-analyze security` may say of a unit at most, in tenths.
const worstExposure = "20"

// analyze runs systemd-analyze, which only reads.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" && os.Getenv("ANYCASTLE_TEST_ROOT") == "" {
		t.Skip("needs systemd-analyze")
	}
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// unitsOut prints every unit, as a packager does, and gives their texts by role.
func unitsOut(t *testing.T) map[string]string {
	t.Helper()
	code, list, errs := outcome(t, "systemd")
	if code != 0 {
		t.Fatalf("systemd: %s", errs)
	}
	texts := map[string]string{}
	for _, name := range strings.Fields(list) {
		code, text, errs := outcome(t, "systemd", name)
		role, ok := strings.CutPrefix(strings.TrimSuffix(name, ".service"), "anycastle-")
		if code != 0 || !ok {
			t.Fatalf("systemd %s: %s", name, errs)
		}
		texts[role] = text
	}
	return texts
}

func TestUnits(t *testing.T) {
	texts := unitsOut(t)
	for _, role := range append(slices.Clone(mailRoleNames), "witness", "monitor") {
		text, ok := texts[role]
		if !ok {
			t.Errorf("%s has no unit", role)
			continue
		}
		if !strings.Contains(text, "ExecStart=/usr/bin/anycastle mail "+role+"\n") {
			t.Errorf("the unit of %s starts something else", role)
		}
		if writes := strings.Contains(text, "ReadWritePaths="); writes != (role == "store" || role == "witness") {
			t.Errorf("the unit of %s lets it write: %v", role, writes)
		}
		// a store takes addresses and a front end low ports, each has rights and sockets for that, and the others none
		takes, binds := strings.Contains(text, "\nAmbientCapabilities=CAP_NET_ADMIN\n"), strings.Contains(text, "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n")
		if takes != (role == "store") || binds != slices.Contains([]string{"smtp", "submission", "imap"}, role) || strings.Contains(text, "AF_NETLINK") != takes {
			t.Errorf("the unit of %s: may change addresses %v, may use low ports %v", role, takes, binds)
		}
		if unit, _, _ := strings.Cut(text, "[Service]"); !strings.Contains(unit, "\nStartLimitIntervalSec=0\n") {
			t.Errorf("the unit of %s is given up when it cannot start for some seconds", role)
		}
		self, err := os.Executable() // a binary that there is
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "anycastle-"+role+".service")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/bin/anycastle", self)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := analyze(t, "verify", file); out != "" {
			t.Errorf("%s: systemd says\n%s", role, out)
		}
		analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+worstExposure, file)
	}
	if code, _, errs := outcome(t, "systemd", "anycastle-pop.service"); code != exitUsage || !strings.Contains(errs, "no unit is called") {
		t.Errorf("no such unit: exit %d, %q", code, errs)
	}
}

const startMail = `mail:
  hostname: mx1.example.org
  directory: DIR/mailboxes.yml
  tls: TLS
  luns: [{name: lun-east, lmtp: "127.0.0.1:2424", imap: "127.0.0.1:1993"}]
  imap: {listen: [":143"]}
  store: {lun: lun-east, path: DIR/lun}
`

// box gives what has a role run in what its unit has the kernel do: the shell makes what it may write to, and all else
// read-only; wrap takes its rights, and filters its system calls.
func box(t *testing.T, unit, dir string, writes ...string) (shell, wrap string) {
	t.Helper()
	for _, w := range writes {
		w = filepath.Join(dir, w)
		shell += fmt.Sprintf("mkdir -p %[1]s; chmod 777 %[1]s; mount --bind %[1]s %[1]s\n", w)
	}
	shell += "mount -o remount,bind,ro /; ! touch " + filepath.Join(dir, "outside") + " 2>/dev/null"
	keep := ""
	for _, c := range []string{"net_bind_service", "net_admin"} {
		if strings.Contains(unit, "CapabilityBoundingSet=CAP_"+strings.ToUpper(c)+"\n") {
			keep += ",+" + c
		}
	}
	wrap = fmt.Sprintf("env TMPDIR=%[1]s/tmp %[2]s=\"$(cat %[1]s/filter)\" setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "+
		"--inh-caps=-all%[3]s --ambient-caps=-all%[3]s --bounding-set=-all%[3]s boxed", dir, boxEnv, keep)
	return shell, wrap
}

// TestSandboxDoesNotBreakRoles runs a store and a front end with the rights, the read-only file system, the filter of
// system calls and the ban on writable code that their units ask for, as far as that goes without systemd: the other
// Protect and Restrict settings take away what is not used here, and are not tried.
func TestSandboxDoesNotBreakRoles(t *testing.T) {
	netnstest.Root(t)
	h := newBareHost(t, startMail)
	binary, err := exec.LookPath("anycastle")
	h.do(err)
	for dir := filepath.Dir(binary); strings.HasPrefix(dir, filepath.Clean(os.TempDir())+"/"); dir = filepath.Dir(dir) {
		h.do(os.Chmod(dir, 0o755)) // for who is not root
	}
	var hash strings.Builder
	if code := run(t.Context(), env{strings.NewReader("sesame\n"), &hash, os.Stderr}, []string{"mail", "hash-password"}); code != 0 {
		t.Fatal("no hash")
	}
	boxes := fmt.Appendf(nil, "mailboxes:\n  - {address: alice@example.org, lun: lun-east, password: '%s'}\n", strings.TrimSpace(hash.String()))
	h.do(os.WriteFile(filepath.Join(h.dir, "mailboxes.yml"), boxes, 0o644))
	h.do(os.Mkdir(filepath.Join(h.dir, "lun"), 0o700)) // the store's alone
	h.do(os.Chown(filepath.Join(h.dir, "lun"), 65534, 65534))
	texts := unitsOut(t)
	h.do(os.WriteFile(filepath.Join(h.dir, "filter"), []byte(filterOf(t, texts["imap"])), 0o644))
	if filterOf(t, texts["imap"]) != filterOf(t, texts["store"]) {
		t.Fatal("the units have different filters")
	}
	shell, wrap := box(t, texts["store"], h.dir, "run", "tmp", "lun")
	store := h.start("mail store", shell, wrap, "run", nil)
	store.said(t, "new=serving")
	shell, wrap = box(t, texts["imap"], h.dir, "run", "tmp")
	front := h.start("mail imap", shell, wrap, "run", nil)
	front.said(t, "new=serving")

	h.talkIMAP(t)
	for _, p := range []*process{front, store} {
		h.do(p.Process.Signal(os.Interrupt))
		if err := <-p.ended; err != nil {
			t.Errorf("ended with %v: %s", err, &p.stderr)
		}
	}
	t.Run("it is one", func(t *testing.T) {
		for _, broken := range []string{
			"unshare -n true", "setpriv --reuid=0 true", "touch DIR/outside", "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
		} {
			if strings.HasPrefix(broken, "python3") {
				if _, err := exec.LookPath("python3"); err != nil {
					continue
				}
			}
			command := strings.ReplaceAll(shell+"\n"+wrap+" "+broken, "DIR", h.dir)
			cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", command)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("%s is let through: %s", broken, out)
			}
		}
		cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", shell+"\n"+wrap+" true")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("nothing is let through: %v: %s", err, out)
		}
	})
}
