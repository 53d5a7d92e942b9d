package repotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "anycastle"

// pkg is the part of `go list -json` that the rules look at.
type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	Name         string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Name,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list names %d packages; there are more", len(pkgs))
	}
	return pkgs
}

// room gives the top folder of a package of ours, or "" for a foreign one.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// helper says whether a package of ours is there for tests only.
func helper(path string) bool { return room(path) == "internal" && strings.HasSuffix(path, "test") }

// mayImport says which rooms a room may enter, besides itself, and why no other.
var mayImport = map[string]struct {
	rooms  []string
	reason string
}{
	"cmd":       {[]string{"bpf", "lb", "rhi", "gss", "mailroles", "lab", "internal"}, "cmd joins everything"},
	"bpf":       {nil, "bpf holds programs and knows no role, so that it can be read and tested alone"},
	"lb":        {[]string{"bpf", "internal"}, "roles never import each other: cmd joins them through interfaces that the consumer declares"},
	"rhi":       {[]string{"internal"}, "roles never import each other: cmd joins them through interfaces that the consumer declares"},
	"gss":       {[]string{"internal"}, "roles never import each other: cmd joins them through interfaces that the consumer declares"},
	"mailroles": {[]string{"internal"}, "roles never import each other: cmd joins them through interfaces that the consumer declares"},
	"lab":       {[]string{"internal"}, "lab drives the built binary from outside, as a user does, so that its figures are those of the product"},
	"internal":  {[]string{"internal"}, "internal packages serve every role and therefore know none"},
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range listPackages(t) {
		from := room(p.ImportPath)
		rule, ok := mayImport[from]
		if !ok {
			t.Errorf("%s is in no room; the rooms are those of the design", p.ImportPath)
			continue
		}
		for _, to := range p.Imports {
			if helper(to) && !helper(p.ImportPath) {
				t.Errorf("%s imports %s: helpers of tests stay out of the binary", p.ImportPath, to)
			}
			if r := room(to); r != "" && r != from && !slices.Contains(rule.rooms, r) {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, rule.reason)
			}
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			if r := room(to); r != "" && r != from && !slices.Contains(rule.rooms, r) && !helper(to) {
				t.Errorf("%s imports %s in its tests: %s", p.ImportPath, to, rule.reason)
			}
		}
	}
}

// keptIn names, for each foreign library that must not spread, the places that may import it: a package, all
// packages below one, or one file of a package after a colon.
var keptIn = []struct {
	library string
	places  []string
	reason  string
}{
	{"github.com/cilium/ebpf", []string{"bpf", "lb:dataplane.go"}, "one room knows how programs are loaded"},
	{"github.com/osrg/gobgp/", []string{"rhi:speaker.go", "rhi:speaker_paths.go"}, "the speaker alone knows the BGP library, whose traps are many"},
	{"github.com/miekg/dns", []string{"gss", "gss/...", "internal/probe:dns.go", "lab/client:resolve.go", "mailroles/queue/mx"}, "the DNS library stays with who speaks DNS"},
	{"github.com/oschwald/maxminddb-golang", []string{"gss:mmdb.go"}, "one file knows the databases of networks"},
	{"github.com/spf13/cobra", []string{"cmd/anycastle"}, "commands are assembled in one place"},
	{"go.yaml.in/yaml", []string{"internal/config"}, "one decoder, strict and with line numbers"},
	{"github.com/hashicorp/memberlist", []string{"internal/mesh"}, "one package knows the gossip library and keeps its bounds"},
	{"github.com/gopacket/gopacket", []string{"internal/pcapng", "internal/pkttest"}, "one package knows the library's capture files; its packets are for tests"},
	{"github.com/go-ldap/ldap/", []string{"mailroles/directory"}, "one package knows LDAP, and when an answer is one"},
	{"github.com/pires/go-proxyproto", []string{"mailroles/accept:header.go"}, "one file reads and writes PROXY headers, strictly"},
	{"github.com/google/nftables", []string{"lab/runner", "internal/firewall"}, "the lab cuts links by it, and one package keeps layers apart"},
	{"github.com/mdlayher/netlink", []string{"internal/firewall"}, "only the socket of nftables is sized by it"},
	{"github.com/charmbracelet/", []string{"lab/watch:model.go"}, "one file knows the terminal library; what is shown is a pure function"},
	{"gonum.org/v1/plot", []string{"lab/report:draw.go"}, "one file draws; the rest says what"},
	{"github.com/hashicorp/raft", []string{"mailroles/replica/group"}, "one package knows the library of the log, when it panics and what it forgets"},
}

func TestForeignLibrariesStayInTheirRooms(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, k := range keptIn {
			for _, file := range filesImporting(t, p, k.library) {
				where := strings.TrimPrefix(p.ImportPath, module+"/")
				if !slices.ContainsFunc(k.places, func(place string) bool { return inPlace(place, where, file) }) {
					t.Errorf("%s/%s imports %s, which belongs in %s: %s", where, file, k.library, strings.Join(k.places, " and "), k.reason)
				}
			}
		}
	}
}

// inPlace says whether a file of a package is in a place; one that ends in /... is all packages below it.
func inPlace(place, where, file string) bool {
	if above, ok := strings.CutSuffix(place, "..."); ok {
		return strings.HasPrefix(where, above)
	}
	return place == where || place == where+":"+file
}

// filesImporting gives the non-test files of a package that import a library.
func filesImporting(t *testing.T, p pkg, library string) []string {
	t.Helper()
	var files []string
	for _, name := range p.GoFiles {
		text, err := os.ReadFile(p.Dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(`"`+library)) {
			files = append(files, name)
		}
	}
	return files
}
