package partner

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galley"
)

func TestKeygen(t *testing.T) {
	home, now := filepath.Join(t.TempDir(), "agent"), time.Now()
	i, path, err := Keygen(home, "harbour-gazette", 30, now)
	if err != nil {
		t.Fatal(err)
	}
	if i.Partner != "harbour-gazette" || path != filepath.Join(home, "partner.crt") {
		t.Errorf("%s at %s", i.Partner, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, rest := pem.Decode(data)
	if b == nil || len(rest) > 0 || bytes.Contains(data, []byte("PRIVATE")) {
		t.Fatalf("the certificate's file holds more than a certificate: %s", data)
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil || c.Subject.CommonName != "harbour-gazette" || c.CheckSignatureFrom(c) == nil && c.IsCA {
		t.Errorf("%v, %v", c.Subject, err)
	}
	// A coordinator whose clock is an hour behind takes it at once.
	if c.NotBefore.After(now.Add(-time.Hour)) || c.NotAfter.Before(now.AddDate(0, 0, 29)) || c.NotAfter.After(now.AddDate(0, 0, 31)) {
		t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
	}
	for path, want := range map[string]os.FileMode{home: 0o700, filepath.Join(home, identityFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	before, _ := os.ReadFile(filepath.Join(home, identityFile))
	if _, _, err := Keygen(home, "harbour-gazette", 30, now); galley.CodeOf(err) != galley.AlreadyExists || !strings.Contains(err.Error(), "--rotate") {
		t.Errorf("a key was made over another: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(home, identityFile)); !bytes.Equal(before, after) {
		t.Error("the key has changed")
	}
}

func TestKeygenRefuses(t *testing.T) {
	for _, c := range []struct {
		partner string
		days    int
		want    string
	}{
		{"Harbour Gazette", 30, "is not a name"},
		{"../harbour", 30, "is not a name"},
		{"harbour", 0, "--days: is 0"},
		{"harbour", 1826, "from 1 to 1825"},
	} {
		if _, _, err := Keygen(t.TempDir(), c.partner, c.days, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %d days: %v", c.partner, c.days, err)
		}
	}
	if _, _, err := Rotate(filepath.Join(t.TempDir(), "absent"), 30, time.Now()); galley.CodeOf(err) != galley.NotFound || !strings.Contains(err.Error(), "keygen") {
		t.Error(err)
	}
}

func TestKeyOthersCanRead(t *testing.T) {
	home := t.TempDir()
	if _, _, err := Keygen(home, "harbour", 30, time.Now()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, identityFile)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := loadIdentity(home); galley.CodeOf(err) != galley.PermissionDenied || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%04o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := loadIdentity(home); err != nil {
		t.Error(err)
	}
}

func TestDamagedKey(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	i, _, err := Keygen(home, "harbour", 30, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := Keygen(other, "harbour", 30, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, identityFile)
	whole, _ := os.ReadFile(path)
	key, _, _ := bytes.Cut(whole, []byte("-----BEGIN CERTIFICATE"))
	for name, data := range map[string][]byte{
		"empty": nil, "cut off": whole[:len(whole)/2], "a key alone": key, "a certificate alone": certificatePEM(i.Certificate.Raw),
		"another's certificate": append(bytes.Clone(key), certificatePEM(j.Certificate.Raw)...), "no PEM": []byte("key"),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadIdentity(home); galley.CodeOf(err) != galley.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a kill leaves between two files is healed, and never a key lost.
func TestKilledKeygen(t *testing.T) {
	home := t.TempDir()
	left := filepath.Join(home, identityFile+".ABCDEFGHIJ.tmp")
	if err := os.WriteFile(left, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	i, path, err := Keygen(home, "harbour", 30, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("half a key was left")
	}
	if err := os.Remove(path); err != nil { // killed before the certificate was written
		t.Fatal(err)
	}
	if _, _, err := Keygen(home, "harbour", 30, time.Now()); galley.CodeOf(err) != galley.AlreadyExists {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, certificatePEM(i.Certificate.Raw)) {
		t.Errorf("the certificate is not healed: %v", err)
	}
}

func TestRotate(t *testing.T) {
	home := t.TempDir()
	first, path, err := Keygen(home, "harbour", 30, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next, nextPath, err := Rotate(home, 60, time.Now())
	if err != nil || nextPath == path || next.Partner != "harbour" || next.Key.Equal(first.Key) {
		t.Fatalf("%+v, %v", next, err)
	}
	if _, _, err := Rotate(home, 60, time.Now()); galley.CodeOf(err) != galley.AlreadyExists {
		t.Errorf("a next key was made over another: %v", err)
	}
	if i, err := loadIdentity(home); err != nil || i.Fingerprint() != first.Fingerprint() {
		t.Errorf("the present key has changed: %v", err)
	}
	if err := promote(home, next); err != nil {
		t.Fatal(err)
	}
	i, err := loadIdentity(home)
	if err != nil || i.Fingerprint() != next.Fingerprint() {
		t.Errorf("%v", err)
	}
	if data, _ := os.ReadFile(path); !bytes.Equal(data, certificatePEM(next.Certificate.Raw)) {
		t.Error("partner.crt is of the key before")
	}
	if _, ok, err := nextIdentity(home); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if err := promote(home, next); err != nil { // again, after a kill
		t.Error(err)
	}
}
