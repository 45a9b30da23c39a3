package partner

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/task"
)

// Whatever a coordinator sends, what comes through can be a path, counted with
// and waited for.
func FuzzOffer(f *testing.F) {
	good := message(federation.Offer{
		Protocol: 1, Federation: "headlines", Run: "job-1", Round: 1, Attempt: 1, Partner: "harbour", Agreement: galley.DigestBytes(nil), Purpose: "p",
		Model: "news-topic", Base: galley.DigestBytes(nil), MinCohort: 2, Strategy: federation.FedAvg, Weighting: federation.ByRows, Within: time.Minute,
	})
	for _, change := range []func(*federationpb.Offer){
		func(*federationpb.Offer) {},
		func(o *federationpb.Offer) { o.Run = "../x" },
		func(o *federationpb.Offer) { o.Within.Seconds = 1 << 62 },
		func(o *federationpb.Offer) { o.Round = -1 },
	} {
		o := proto.CloneOf(good)
		change(o)
		data, err := proto.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m federationpb.Offer
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		o, err := offerOf(&m)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			return
		}
		for _, name := range []string{o.Run, o.Base.Hex()} {
			if name == "" || filepath.Base(name) != name || !filepath.IsLocal(name) {
				t.Errorf("%q is a path", name)
			}
		}
		if o.Within <= 0 || o.Within > maxWithin || o.Round < 1 || o.Attempt < 1 {
			t.Errorf("%+v", o)
		}
	})
}

// A chunkStream is a model's stream from bytes: each chunk has two bytes that
// say which name it has and how long it is.
type chunkStream struct {
	grpc.ServerStreamingClient[federationpb.ModelChunk]
	data []byte
}

var chunkNames = []string{"", task.ModelFile, task.ConfigFile, task.TokenizerFile, "../outside", "identity.pem"}

func (s *chunkStream) Recv() (*federationpb.ModelChunk, error) {
	if len(s.data) < 4 {
		return nil, io.EOF
	}
	c := &federationpb.ModelChunk{Name: chunkNames[int(s.data[0])%len(chunkNames)], Size: int64(int16(binary.LittleEndian.Uint16(s.data[2:])))}
	n := min(int(s.data[1]), len(s.data)-4)
	c.Data = s.data[4 : 4+n]
	if c.Digest = string(galley.DigestBytes(c.Data)); n > 0 && c.Data[0] == 'x' {
		c.Digest = "sha256:x"
	}
	s.data = s.data[4+n:]
	return c, nil
}

// Whatever comes as a model, no more is written than may be, and nowhere else.
func FuzzModel(f *testing.F) {
	file := func(name byte, data string) []byte {
		return append([]byte{name, byte(len(data)), byte(len(data)), 0}, data...)
	}
	f.Add(slices.Concat(file(1, "graph"), file(2, "settings"), file(3, "tokenizer")))
	f.Add(slices.Concat(file(1, "graph"), file(1, "graph")))
	f.Add(file(4, "outside"))
	f.Add([]byte{1, 1, 200, 0, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 500
		parent := t.TempDir()
		dir := filepath.Join(parent, "model")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		files, err := receiveModel(&chunkStream{data: data}, dir, most)
		if err == nil && len(files) != len(modelFiles) {
			t.Errorf("%v", files)
		}
		written := int64(0)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !slices.Contains(modelFiles, e.Name()) {
				t.Errorf("%s was written", e.Name())
			}
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			written += info.Size()
		}
		if outside, _ := os.ReadDir(parent); written > most || len(outside) != 1 {
			t.Errorf("%d bytes and %v", written, outside)
		}
	})
}
