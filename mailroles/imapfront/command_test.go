package imapfront

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommand(t *testing.T) {
	large := strings.Repeat("x", maxLiteral)
	for _, tc := range []struct {
		name, text string
		want       command
		asked      int
	}{
		{"bare", "a NOOP\r\n", command{tag: "a", name: "NOOP"}, 0},
		{"lone LF, lower case", "a noop\n", command{tag: "a", name: "NOOP"}, 0},
		{"quoted", `a LOGIN x "p \"q\" \\r"` + "\r\n", command{"a", "LOGIN", []string{"x", `p "q" \r`}}, 0},
		{"list", "a ID (\"k\" NIL)\r\n", command{"a", "ID", []string{"(", "k", "NIL", ")"}}, 0},
		{"literals", "a LOGIN {1+}\r\nx {3}\r\ny\r\n\r\n", command{"a", "LOGIN", []string{"x", "y\r\n"}}, 1},
		{"empty literal", "a LOGIN x {0}\r\n\r\n", command{"a", "LOGIN", []string{"x", ""}}, 1},
		{"largest literals", "a ID" + strings.Repeat(" {4096+}\r\n"+large, 4) + "\r\n", command{"a", "ID", []string{large, large, large, large}}, 0},
		{"brace within an atom", "a LOGIN x }y{\r\n", command{}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			r := newReader(strings.NewReader(tc.text+"next"), func() error { asked++; return nil })
			got, err := r.command()
			if tc.want.tag == "" {
				if !errors.Is(err, errSyntax) {
					t.Fatalf("error = %v, want errSyntax", err)
				}
			} else if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(command{})); err != nil || diff != "" || asked != tc.asked {
				t.Fatalf("asked %d times, %v: %s", asked, err, diff)
			}
			if rest, _ := io.ReadAll(r.br); string(rest) != "next" {
				t.Errorf("left over: %q", rest)
			}
		})
	}
}

func TestCommandErrors(t *testing.T) {
	for _, tc := range []struct {
		text string
		want error
	}{
		{"\r\n", errSyntax},
		{"a\r\n", errSyntax},
		{" a NOOP\r\n", errSyntax},
		{"a+ NOOP\r\n", errSyntax},
		{"a LOGIN \"x\r\n", errSyntax},
		{"a LOGIN \"x\\y\"\r\n", errSyntax},
		{"a LOGIN \"x\"y\r\n", errSyntax},
		{"a ID" + strings.Repeat(" x", maxArgs+1) + "\r\n", errSyntax},
		{"a LOGIN {4097}\r\n", errLiteralSize},
		{"a LOGIN {99999999999999999999999+}\r\n", errLiteralSize},
		{"a ID" + strings.Repeat(" {0+}\r\n", maxArgs+1) + "\r\n", errLiteralSize},
		{"a ID" + strings.Repeat(" {4096+}\r\n"+strings.Repeat("x", 4096), 5) + "\r\n", errLiteralSize},
		{"a LOGIN " + strings.Repeat("x", maxLine) + "\r\n", errLineTooLong},
		{"a LOGIN {5+}\r\nx", io.ErrUnexpectedEOF},
		{"a LOGIN", io.EOF},
	} {
		if _, err := newReader(strings.NewReader(tc.text), func() error { return nil }).command(); !errors.Is(err, tc.want) {
			t.Errorf("%.40q: error = %v, want %v", tc.text, err, tc.want)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"a CAPABILITY\r\n", "a ID (\"x\" NIL)\r\n", "a LOGIN x {3+}\r\nabc\r\n", "a AUTHENTICATE PLAIN =\r\n", "a LOGIN \"\\\"\" {0}\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newReader(bytes.NewReader(text), func() error { return nil })
		for {
			c, err := r.command()
			if err != nil && !errors.Is(err, errSyntax) {
				return
			}
			if len(c.args) > maxArgs+1 {
				t.Fatalf("%d arguments", len(c.args))
			}
			if err == nil && (c.tag == "" || c.name == "" || strings.ContainsAny(c.tag+c.name, "\r\n ")) {
				t.Fatalf("tag %q, name %q", c.tag, c.name)
			}
		}
	})
}
