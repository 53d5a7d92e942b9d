package topo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// reader is the folder of the module that has containerlab among its requirements: this one must not.
const reader = "testdata/containerlab"

// topologies lists the topology files that both runners must be able to read, those of this folder first.
func topologies(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*/*.clab.yml", "testdata/*/*.clab.yml", "../runner/testdata/*/*.clab.yml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Fatalf("nothing matches %s", pattern)
		}
		files = append(files, found...)
	}
	for _, name := range Names() {
		if _, err := os.Stat(filepath.Join(name, name+".clab.yml")); err != nil {
			t.Errorf("the binary has a topology that this test does not find: %v", err)
		}
	}
	return files
}

// containerlab gives the folder of containerlab's source, of the version that the reader's go.mod and go.sum name.
func containerlab(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/srl-labs/containerlab")
	cmd.Dir = reader
	var module struct{ Dir, Error string }
	out, err := cmd.Output()
	if jerr := json.Unmarshal(out, &module); jerr != nil || module.Error != "" || err != nil {
		t.Fatalf("download containerlab's source: %v, %v, %s", err, jerr, module.Error)
	}
	return module.Dir
}

// schema is what containerlab publishes for editors and for its users' checks.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	s, err := c.Compile(filepath.Join(containerlab(t), "schemas", "clab.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance gives a topology as the schema's library has JSON.
func instance(t *testing.T, text []byte) any {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTopologiesFitContainerlabsSchema(t *testing.T) {
	s := schema(t)
	for _, file := range topologies(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance(t, text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A schema that takes everything would prove nothing.
func TestSchemaRefuses(t *testing.T) {
	s := schema(t)
	text, err := os.ReadFile("lb-only/lb-only.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	for old, wrong := range map[string]string{
		"name: lb-only\n":                 "",
		"image: anycastle":                "imago: anycastle",
		"network-mode: none":              "network-mode: [none]",
		`["client:eth1", "router:eth1"]`:  `"client:eth1"`,
		"group: outside":                  "groop: outside",
		"  links:\n":                      "  lynx:\n",
		"        - nodes/client.yml:/etc": "        - a: nodes/client.yml:/etc",
	} {
		broken := strings.Replace(string(text), old, wrong, 1)
		if broken == string(text) {
			t.Errorf("%q is not there to be broken", old)
			continue
		}
		if err := s.Validate(instance(t, []byte(broken))); err == nil {
			t.Errorf("with %q instead of %q the file fits the schema", wrong, old)
		}
	}
}
