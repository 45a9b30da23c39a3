package partner

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"strconv"

	"google.golang.org/grpc"

	"galley"
	"galley/federation"
	"galley/internal/durable"
)

// The files of a membership.
const (
	membershipFile = "membership.json"
	agreementFile  = "agreement.yaml" // as it was joined with
	serverFile     = "coordinator.pem"
)

// MaxAgreement bounds an agreement's file.
const MaxAgreement = 64 << 10

const (
	maxMembership = 1 << 20
	maxServer     = 64 << 10
)

// A Membership is the federation that an agent has joined: at one coordinator,
// by one agreement.
type Membership struct {
	Coordinator string        `json:"coordinator"` // HOST:PORT
	Pinned      bool          `json:"pinned"`      // the server's own certificate, not a CA's
	Agreement   galley.Digest `json:"agreement"`
	// Handed is what the coordinator has acknowledged: with another agreement or
	// another certificate the agent joins again.
	Handed Handed `json:"handed"`

	Terms  federation.Agreement `json:"-"`
	file   []byte               // of the agreement
	server []*x509.Certificate
}

// Handed names what a coordinator holds of a partner.
type Handed struct {
	Agreement   galley.Digest `json:"agreement,omitempty"`
	Certificate galley.Digest `json:"certificate,omitempty"`
}

// Joining is what an operator says to join a federation.
type Joining struct {
	Agreement   []byte // the file
	Coordinator string // HOST:PORT
	Server      []byte // PEM: the server's certificate, or with CA those of its CA
	CA          bool

	Dial []grpc.DialOption // beside its own, for tests that read along
}

// membership checks what an operator says.
func (j Joining) membership() (Membership, error) {
	m := Membership{Coordinator: j.Coordinator, Pinned: !j.CA, file: j.Agreement}
	if err := m.readAgreement(); err != nil {
		return m, err
	}
	m.Agreement = m.Terms.Digest()
	if err := checkAddress(j.Coordinator); err != nil {
		return m, err
	}
	var err error
	if m.server, err = parseCertificates(j.Server); err != nil {
		return m, galley.Errorf(galley.InvalidArgument, "server certificate", "cannot be read: %w", err).
			WithRemedy("name the file in PEM that the coordinator gave you")
	}
	if m.Pinned && len(m.server) != 1 {
		return m, galley.Errorf(galley.InvalidArgument, "server certificate", "the file holds %d certificates", len(m.server)).
			WithRemedy("name a file with the server's own certificate alone, or its CA with --server-ca")
	}
	return m, nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" || len(address) > 300 {
		return galley.Errorf(galley.InvalidArgument, "coordinator", "%q is not HOST:PORT", galley.Clip(address, 80)).
			WithRemedy("write the address that the coordinator's operator gave you, as in federation.example.org:8003")
	}
	return nil
}

// ReadAgreement reads an agreement's file.
func ReadAgreement(path string) ([]byte, federation.Agreement, error) {
	data, err := readBounded(path, MaxAgreement)
	if err != nil {
		return nil, federation.Agreement{}, err
	}
	a, problems := federation.ParseAgreement(data)
	return data, a, problems.AsError(path)
}

func (m *Membership) readAgreement() error {
	a, problems := federation.ParseAgreement(m.file)
	if err := problems.AsError("agreement"); err != nil {
		return err
	}
	m.Terms = a
	return nil
}

// readBounded reads a file of at most so many bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	if int64(len(data)) > most {
		return nil, galley.Errorf(galley.InvalidArgument, path, "has more than %d bytes", most)
	}
	return data, nil
}

func parseCertificates(data []byte) (all []*x509.Certificate, err error) {
	if len(data) > maxServer {
		return nil, errors.New("it is too long")
	}
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != certificateBlock {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return all, nil
}

// membership reads what the agent has joined.
func (h *home) membership() (Membership, error) {
	var m Membership
	err := readJSON(h.path(membershipFile), maxMembership, &m)
	if galley.CodeOf(err) == galley.NotFound {
		return m, galley.Errorf(galley.NotFound, h.dir, "this agent has joined no federation").
			WithRemedy("galley partner join --home %s --agreement FILE --coordinator HOST:PORT --server-cert FILE", h.dir)
	}
	if err != nil {
		return m, err
	}
	again := func(err error) error {
		return galley.Errorf(galley.DataLoss, h.dir, "what the agent joined is not whole: %w", err).
			WithRemedy("join again: galley partner join")
	}
	server, err := readBounded(h.path(serverFile), maxServer)
	if err == nil {
		m.server, err = parseCertificates(server)
	}
	if err == nil {
		m.file, err = readBounded(h.path(agreementFile), MaxAgreement)
	}
	if err == nil {
		err = m.readAgreement()
	}
	if err == nil && m.Terms.Digest() != m.Agreement {
		err = errors.New("its agreement.yaml is not the one that was joined with")
	}
	if err == nil {
		err = checkAddress(m.Coordinator)
	}
	if err != nil {
		return m, again(err)
	}
	return m, nil
}

// keepMembership stores what the agent has joined. Killed between the files, it
// is not whole, and is refused until it is joined again.
func (h *home) keepMembership(m Membership) error {
	var server bytes.Buffer
	for _, c := range m.server {
		server.Write(certificatePEM(c.Raw))
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{agreementFile, m.file}, {serverFile, server.Bytes()}} {
		if err := durable.Write(h.path(f.name), 0o600, f.data); err != nil {
			return durable.WriteError(h.path(f.name), err)
		}
	}
	return h.keepHanded(m)
}

// keepHanded stores what of a membership changes with the coordinator's word.
func (h *home) keepHanded(m Membership) error { return writeJSON(h.path(membershipFile), m) }
