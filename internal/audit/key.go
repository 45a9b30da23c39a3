package audit

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"galley"
)

// pemType is how a file of a private key calls it.
const pemType = "PRIVATE KEY"

// EncodeKey writes a private key as other programs read it: PKCS #8, PEM.
func EncodeKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, galley.Errorf(galley.Internal, "audit key", "cannot be written: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// DecodeKey reads what EncodeKey wrote.
func DecodeKey(data []byte) (ed25519.PrivateKey, error) {
	unreadable := func(err error) (ed25519.PrivateKey, error) {
		return nil, galley.Errorf(galley.DataLoss, "audit key", "cannot be read: %w", err).
			WithRemedy("restore it from a backup, or remove it: a new one is made, and heads say that the key has changed")
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemType || len(rest) > 0 {
		return unreadable(errors.New("it is no private key in PEM"))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return unreadable(err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return unreadable(errors.New("it is no ed25519 key"))
	}
	return key, nil
}
