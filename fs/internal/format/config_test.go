package format

import (
	"errors"
	"strings"
	"testing"
)

func TestConfigTampering(t *testing.T) {
	b, err := testConfig().Seal(testVolumeKey())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	replace := func(old, new string) string {
		t.Helper()
		out := strings.Replace(text, old, new, 1)
		if out == text {
			t.Fatalf("no %q in %s", old, text)
		}
		return out
	}
	for what, changed := range map[string]string{
		"volume":             replace("vol-0", "vol-1"),
		"creation":           replace("2026-", "2025-"),
		"key":                replace("1234abcd", "1234abce"),
		"region":             replace("us-east-1", "us-east-2"),
		"key mode":           replace(`"keys": "path"`, `"keys": "volume"`),
		"context":            replace(`"context": "path"`, `"context": "opaque"`),
		"algorithm":          replace("AES-256-GCM", "XChaCha20-Poly1305"),
		"geometry":           replace(`"file"`, `"block"`),
		"wrapped volume key": replace(`"AAEC`, `"AAED`),
		"MAC":                replace(`"mac": "`+text[strings.Index(text, `"mac": "`)+8:][:2], `"mac": "zz`),
	} {
		c, err := ParseConfig([]byte(changed))
		if err != nil {
			t.Errorf("%s: %v", what, err) // well formed: the MAC has to tell
			continue
		}
		if err := c.Verify(testVolumeKey()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("another %s verifies: %v", what, err)
		}
	}
	for what, changed := range map[string]string{
		"no JSON":           "volume = 1\n",
		"nothing":           "",
		"null":              "null\n",
		"no schema":         replace("\"schema\": 1,\n  ", ""),
		"schema 0":          replace(`"schema": 1`, `"schema": 0`),
		"schema -1":         replace(`"schema": 1`, `"schema": -1`),
		"schema 1.0":        replace(`"schema": 1`, `"schema": 1.0`),
		"a field more":      replace(`"schema": 1,`, `"schema": 1, "more": 1,`),
		"a field twice":     replace(`"schema": 1,`, "\"schema\": 1,\n  \"schema\": 1,"),
		"a field missing":   replace("  \"geometry\": \"file\",\n", ""),
		"another case":      replace(`"volume"`, `"Volume"`),
		"white space":       replace(`"schema": 1`, `"schema":  1`),
		"no newline":        strings.TrimSuffix(text, "\n"),
		"a newline more":    text + "\n",
		"an object more":    text + text,
		"escapes":           replace("vol-", `\u0076ol-`),
		"time zone":         replace("05Z", "05+00:00"),
		"fraction":          replace("05Z", "05.000Z"),
		"volume ID":         replace("vol-0", "vol-"),
		"volume ID in caps": replace("abcdef0", "ABCDEF0"),
		"key without ARN":   replace("arn:aws:kms:us-east-1:000000000000:key/", ""),
		"alias":             replace("key/", "alias/"),
		"key mode":          replace(`"keys": "path"`, `"keys": "none"`),
		"context":           replace(`"context": "path"`, `"context": ""`),
		"algorithm":         replace("AES-256-GCM", "AES-128-GCM"),
		"geometry":          replace(`"file"`, `"tape"`),
		"no wrapped key":    replace(text[strings.Index(text, `"AAEC`):strings.Index(text, "\n  \"mac\"")], `"",`),
		"newline in base64": replace(`"AAEC`, `"\nAAEC`),
		"short MAC":         replace(text[strings.Index(text, `"mac": "`):], "\"mac\": \"AAAA\"\n}\n"),
		"too large":         text + strings.Repeat(" ", maxConfig),
	} {
		if _, err := ParseConfig([]byte(changed)); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnknownSchema) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, schema := range []string{"2", "255"} {
		_, err := ParseConfig([]byte(replace(`"schema": 1`, `"schema": `+schema)))
		if !errors.Is(err, ErrUnknownSchema) || !strings.Contains(err.Error(), schema) {
			t.Errorf("schema %s: %v", schema, err)
		}
		if _, err := ParseConfig([]byte(`{"schema": ` + schema + `, "future": {}}`)); !errors.Is(err, ErrUnknownSchema) {
			t.Errorf("schema %s of another form: %v", schema, err)
		}
	}
	c, err := ParseConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(seq(0, VolumeKeySize)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("verifies under another key: %v", err)
	}
	if err := c.Verify(seq(0, 32)); err == nil {
		t.Error("verifies under half a key")
	}
}

func TestConfigRefused(t *testing.T) {
	for what, change := range map[string]func(c *Config){
		"volume":    func(c *Config) { c.Volume = "vol-1" },
		"key":       func(c *Config) { c.KMSKey = "alias/kmsfs" },
		"keys":      func(c *Config) { c.Keys = "" },
		"context":   func(c *Config) { c.Context = "name" },
		"algorithm": func(c *Config) { c.Algorithm = "" },
		"geometry":  func(c *Config) { c.Geometry = "" },
		"no key":    func(c *Config) { c.WrappedVolumeKey = nil },
		"long key":  func(c *Config) { c.WrappedVolumeKey = make([]byte, maxWrappedVol+1) },
	} {
		c := testConfig()
		change(c)
		if _, err := c.Seal(testVolumeKey()); err == nil {
			t.Errorf("%s: is sealed", what)
		}
	}
}

func TestNewVolumeID(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		v := NewVolumeID()
		if !volumeID.MatchString(v) || seen[v] {
			t.Fatalf("%q", v)
		}
		seen[v] = true
	}
}
