package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// encryptionFile says how secrets are kept in etcd.
func (c *cluster) encryptionFile() string { return c.path("pki", "encryption.yaml") }

// writeEncryption makes a key for secrets, once: who loses it loses them. What an older cluster stored in the open stays readable.
func (c *cluster) writeEncryption() error {
	file := c.encryptionFile()
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	text := fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox: {keys: [{name: first, secret: %s}]}
  - identity: {}
`, base64.StdEncoding.EncodeToString(key))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("writing how secrets are kept: %w", err)
	}
	// Whole or not at all: half a key would be used as if it were one.
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing how secrets are kept: %w", err)
	}
	return os.Rename(file+".new", file)
}
