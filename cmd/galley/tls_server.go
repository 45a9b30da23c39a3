package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"galley"
)

// A certificate is the server's TLS identity, read again when its files
// change: certificates are renewed while it runs.
type certificate struct {
	cert, key, clientCA string // files; clientCA may be empty
	log                 *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	stamp   string    // of the files that config was made of
	checked time.Time // when the files were last looked at
}

// checkEvery is how often the files are looked at, at most.
const checkEvery = time.Second

// openCertificate reads a certificate and its key, and the CA that clients'
// certificates must come from, if there is one.
func openCertificate(cert, key, clientCA string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, clientCA: clientCA, log: log}
	var err error
	if c.stamp, err = c.look(); err != nil {
		return nil, err
	}
	c.config, err = c.read()
	return c, err
}

// serverConfig is the configuration of a listener that speaks protocols.
func (c *certificate) serverConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := c.current(time.Now()).Clone()
			config.NextProtos = protocols
			return config, nil
		},
		NextProtos: protocols,
	}
}

// current is the configuration by the files as they are. While they cannot be
// read, as in the middle of a renewal, it is the one before.
func (c *certificate) current(now time.Time) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since := now.Sub(c.checked); since >= 0 && since < checkEvery {
		return c.config
	}
	c.checked = now
	stamp, err := c.look()
	if err == nil && stamp == c.stamp {
		return c.config
	}
	config := c.config
	if err == nil {
		config, err = c.read()
	}
	if err != nil {
		c.log.Error("the certificate cannot be read again; the one before stays in use", "error", err)
		return c.config
	}
	c.log.Info("the certificate was read again", "file", c.cert)
	c.config, c.stamp = config, stamp
	return config
}

// look tells states of the files apart.
func (c *certificate) look() (string, error) {
	stamp := ""
	for _, path := range []string{c.cert, c.key, c.clientCA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", fileError(path, err)
		}
		stamp += fmt.Sprintln(info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}

func (c *certificate) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "--tls-cert "+c.cert, "cannot be used with --tls-key %s: %w", c.key, err).
			WithRemedy("name a certificate and its key, both in PEM")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.clientCA != "" {
		if config.ClientCAs, err = readAuthorities("--tls-client-ca", c.clientCA); err != nil {
			return nil, err
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// readAuthorities reads certificates that others must come from.
func readAuthorities(name, path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, galley.Errorf(galley.InvalidArgument, name+" "+path, "holds no certificate").WithRemedy("name a file with certificates in PEM")
	}
	return pool, nil
}
