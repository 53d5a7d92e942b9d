package directory

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The example of RFC 7677 section 3: user "user", password "pencil".
func TestKeysOfTheRFC(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	k, err := deriveKeys("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got := base64.StdEncoding.EncodeToString(sum(k.ServerKey, message)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("the server's signature is %s", got)
	}
	again, err := ParseKeys(k.text())
	if diff := cmp.Diff(k, again); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestPreparedPasswords(t *testing.T) {
	for password, want := range map[string]string{
		"pencil": "pencil", "I\u00adX": "IX", "\u00aa": "a", "\u2168": "IX", "a\u00a0b": "a b", "u\u0308": "\u00fc",
		"": "", "\u0007": "", "a\nb": "", "\u00ad": "", "\xff": "",
	} {
		got, ok := prepare(password)
		if ok != (want != "") || ok && got != want {
			t.Errorf("prepare(%q) = %q, %v; want %q", password, got, ok, want)
		}
	}
	if _, err := MakeKeys("a\x07"); err == nil || strings.Contains(err.Error(), "a\x07") {
		t.Errorf("keys of a password with a bell: %v", err)
	}
}

func TestSCRAM(t *testing.T) {
	keys, err := MakeKeys("secret")
	if err != nil {
		t.Fatal(err)
	}
	const seed = "seed: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	text := boxes("a", "scram: '"+keys.text()+"'", "  - {address: b@example.org, password: '"+cheap()+"', lun: lun-1}",
		"  - {address: c@example.org, password: '"+cheap()+"', lun: lun-1, disabled: true, scram: '"+keys.text()+"'}", seed)
	load := func(text []byte) *Directory {
		d, err := Parse("m.yml", text, []string{"lun-1"})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d, other := load(text), load(text)
	got, err := d.SCRAM(t.Context(), "A@example.org")
	if diff := cmp.Diff(keys, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	shown := map[string]bool{}
	for _, user := range []string{"b@example.org", "c@example.org", "z@example.org", "z@example.net", "no address"} {
		fake, err := d.SCRAM(t.Context(), user)
		if !errors.Is(err, ErrLogin) || len(fake.Salt) != len(keys.Salt) || fake.Iterations != keys.Iterations || len(fake.StoredKey) != 32 || len(fake.ServerKey) != 32 {
			t.Errorf("%s: %+v, %v", user, fake, err)
		}
		if shown[string(fake.Salt)] || bytes.Equal(fake.Salt, keys.Salt) {
			t.Errorf("%s has the salt of another", user)
		}
		shown[string(fake.Salt)] = true
		if again, _ := other.SCRAM(t.Context(), strings.ToUpper(user)); user != "no address" && !bytes.Equal(again.Salt, fake.Salt) {
			t.Errorf("%s has another salt on another node", user)
		}
	}
	if !d.HasKeys() {
		t.Error("there are no keys")
	}
	none := load(boxes("a", ""))
	if _, err := none.SCRAM(t.Context(), "a@example.org"); !errors.Is(err, ErrNoKeys) || none.HasKeys() {
		t.Errorf("a directory without keys: %v, want ErrNoKeys", err)
	}
}

func FuzzParseKeys(f *testing.F) {
	k, err := deriveKeys("pencil", []byte("saltsalt"), 4096)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.text())
	f.Add("SCRAM-SHA-256$4096:$:")
	f.Add("{SSHA}x")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKeys(text)
		if err == nil && (k.text() != text || k.Iterations < minRounds || len(k.StoredKey) != 32 || len(k.ServerKey) != 32) {
			t.Fatalf("accepted %q as %+v", text, k)
		}
	})
}
