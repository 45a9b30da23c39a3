package experiment

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
	"time"

	"galley"
)

// A Prediction is what an id says of the answer that it names: enough to count
// an outcome for the right arm, with no row written when it was given.
type Prediction struct {
	Experiment uint32    // its ID; 0 outside of experiments
	Stage      uint8     // of the experiment, from 0
	Arm        Arm       // of the experiment
	Version    uint32    // that answered
	Model      ModelHash // whose version it is
	At         time.Time // in milliseconds
	Place      uint64    // of the request key; of chance without one
	Label      uint16    // index of the label that was given, from 1; 0 if it is not one
	Nonce      uint64    // distinguishes the predictions of a millisecond
}

// A ModelHash stands for a model's name in an id.
type ModelHash [5]byte

// HashModel returns the hash of a model's name.
func HashModel(name string) ModelHash {
	sum := sha256.Sum256([]byte(name))
	return ModelHash(sum[:])
}

// An id is a prediction in 40 bytes, big-endian, and the first bytes of their
// HMAC-SHA256, in URL-safe base64.
const (
	idForm    = 1
	idBody    = 40
	idMAC     = 14
	KeySize   = 32 // bytes of a Signer's key
	idEncoded = (idBody + idMAC) / 3 * 4
)

// A Signer makes ids that nobody else can make. Several goroutines may use it.
type Signer struct {
	macs sync.Pool // of hash.Hash: a keyed one costs two blocks to make
}

// NewSigner makes a signer with a key of KeySize bytes.
func NewSigner(key []byte) *Signer {
	key = append([]byte(nil), key...)
	return &Signer{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// NewKey makes a key by chance.
func NewKey() []byte {
	key := make([]byte, KeySize)
	// The system's randomness does not fail: crypto/rand stops the process
	// rather than give less.
	_, _ = rand.Read(key)
	return key
}

// Nonce returns a number by chance, for a prediction or for the place of a
// request without a key.
func Nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// Sign returns the id of a prediction.
func (s *Signer) Sign(p Prediction) string {
	var b [idBody + idMAC]byte
	b[0] = idForm
	binary.BigEndian.PutUint32(b[1:], p.Experiment)
	b[5], b[6] = p.Stage, byte(p.Arm)
	binary.BigEndian.PutUint32(b[7:], p.Version)
	copy(b[11:16], p.Model[:])
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(p.At.UnixMilli()))
	copy(b[16:22], at[2:])
	binary.BigEndian.PutUint64(b[22:], p.Place)
	binary.BigEndian.PutUint16(b[30:], p.Label)
	binary.BigEndian.PutUint64(b[32:], p.Nonce)
	s.mac(b[:idBody], b[idBody:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// mac writes the first bytes of a body's HMAC into out.
func (s *Signer) mac(body, out []byte) {
	h, ok := s.macs.Get().(hash.Hash)
	if !ok {
		return // the pool makes nothing else
	}
	defer s.macs.Put(h)
	h.Reset()
	h.Write(body)
	var sum [sha256.Size]byte
	copy(out, h.Sum(sum[:0]))
}

// Verify reads an id that this signer made. Anything else is NotFound: whether
// it was forged, damaged, or made by another home, nothing is known of it.
func (s *Signer) Verify(id string) (Prediction, error) {
	unknown := func() (Prediction, error) {
		return Prediction{}, galley.Errorf(galley.NotFound, "prediction", "%q is not the id of a prediction of this server", galley.Clip(id, 80)).
			WithRemedy("send the prediction_id of an answer as it came")
	}
	if len(id) != idEncoded {
		return unknown()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) != idBody+idMAC || b[0] != idForm || b[6] > byte(Treatment) {
		return unknown()
	}
	var want [idMAC]byte
	s.mac(b[:idBody], want[:])
	if !hmac.Equal(want[:], b[idBody:]) {
		return unknown()
	}
	var at [8]byte
	copy(at[2:], b[16:22])
	return Prediction{
		Experiment: binary.BigEndian.Uint32(b[1:]), Stage: b[5], Arm: Arm(b[6]),
		Version: binary.BigEndian.Uint32(b[7:]), Model: ModelHash(b[11:16]),
		At:    time.UnixMilli(int64(binary.BigEndian.Uint64(at[:]))).UTC(),
		Place: binary.BigEndian.Uint64(b[22:]), Label: binary.BigEndian.Uint16(b[30:]), Nonce: binary.BigEndian.Uint64(b[32:]),
	}, nil
}
