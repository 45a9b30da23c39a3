package main

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley"
)

// A client is a connection to a server: one out there, or one made for this
// command over the home's own state.
type client struct {
	control     controlpb.ControlClient
	audit       controlpb.AuditClient
	maintenance controlpb.MaintenanceClient
	access      controlpb.AccessClient
	batch       controlpb.BatchClient
	experiments controlpb.ExperimentsClient
	federations controlpb.FederationsClient
	newsroom    newsroompb.NewsroomClient
	inference   inferencepb.GRPCInferenceServiceClient
	close       func()
}

// identity is what the command shows a server, and what it asks of one.
type identity struct {
	token     string // GALLEY_TOKEN
	ca        string // GALLEY_CA: file with the CA of the server's certificate
	cert, key string // GALLEY_CERT, GALLEY_KEY: files with the client's own certificate
}

// identityOf takes an identity from the environment.
func identityOf(env func(string) (string, bool)) identity {
	get := func(name string) string {
		v, _ := env(name)
		return strings.TrimSpace(v)
	}
	return identity{token: get("GALLEY_TOKEN"), ca: get("GALLEY_CA"), cert: get("GALLEY_CERT"), key: get("GALLEY_KEY")}
}

// maxMessage is what a reply may have.
const maxMessage = 64 << 20

// dial connects to a server that shows and asks nothing, through dialer if
// there is one; after is called when the client is closed.
func dial(address string, dialer func(context.Context, string) (net.Conn, error), after func()) (*client, error) {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if dialer != nil {
		options = append(options, grpc.WithContextDialer(dialer))
	}
	return connect(address, after, options...)
}

// dialServer connects to the server of GALLEY_SERVER.
func (a *app) dialServer() (*client, error) {
	address, options, err := a.identity.transport(a.server)
	if err != nil {
		return nil, err
	}
	return connect(address, nil, options...)
}

func connect(address string, after func(), options ...grpc.DialOption) (*client, error) {
	options = append(options, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		if after != nil {
			after()
		}
		return nil, galley.Errorf(galley.InvalidArgument, address, "is not an address: %w", err).WithRemedy("write it as HOST:PORT or https://HOST:PORT")
	}
	return &client{
		control:     controlpb.NewControlClient(conn),
		audit:       controlpb.NewAuditClient(conn),
		maintenance: controlpb.NewMaintenanceClient(conn),
		access:      controlpb.NewAccessClient(conn),
		batch:       controlpb.NewBatchClient(conn),
		experiments: controlpb.NewExperimentsClient(conn),
		federations: controlpb.NewFederationsClient(conn),
		newsroom:    newsroompb.NewNewsroomClient(conn),
		inference:   inferencepb.NewGRPCInferenceServiceClient(conn),
		close: func() {
			conn.Close()
			if after != nil {
				after()
			}
		},
	}, nil
}

// transport returns how to reach a server that is named HOST:PORT,
// https://HOST:PORT or http://HOST:PORT. Without a scheme, TLS is spoken with
// other machines, and where there is a CA. A token goes to another machine
// over TLS only.
func (id identity) transport(server string) (address string, options []grpc.DialOption, err error) {
	address, secure := strings.CutPrefix(server, "https://")
	plain := false
	if !secure {
		address, plain = strings.CutPrefix(server, "http://")
	}
	address = strings.TrimSuffix(address, "/")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	local := isLoopback(host)
	if !plain {
		secure = secure || !local || id.ca != ""
	}
	if id.token != "" && !secure && !local {
		return "", nil, galley.Errorf(galley.FailedPrecondition, server, "a token does not go to another machine in plain text, where others can read it").
			WithRemedy("write https://%s, and set GALLEY_CA if the server's certificate comes from a CA of your own", address)
	}
	if id.token != "" {
		if strings.ContainsFunc(id.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", nil, galley.Errorf(galley.InvalidArgument, "GALLEY_TOKEN", "is not a token").WithRemedy("set it to what galley auth token create printed")
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer{id.token, secure}))
	}
	if !secure {
		return address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials())), nil
	}
	config, err := id.config()
	if err != nil {
		return "", nil, err
	}
	return address, append(options, grpc.WithTransportCredentials(credentials.NewTLS(config))), nil
}

// config is what the command asks of a server's certificate, and its own.
func (id identity) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if id.ca != "" {
		if config.RootCAs, err = readAuthorities("GALLEY_CA", id.ca); err != nil {
			return nil, err
		}
	}
	if id.cert != "" || id.key != "" {
		pair, err := tls.LoadX509KeyPair(id.cert, id.key)
		if err != nil {
			return nil, galley.Errorf(galley.InvalidArgument, "GALLEY_CERT", "cannot be used with GALLEY_KEY: %w", err).
				WithRemedy("set both, to a certificate and its key in PEM")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// bearer shows a token with each call.
type bearer struct {
	token  string
	secure bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return b.secure }

// tlsTrouble is the error of a server that answers, and cannot be understood
// or trusted; nil if the message of gRPC's error is of something else.
func tlsTrouble(server, message string) error {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(message, part) })
	}
	switch {
	case has("remote error: tls"):
		return galley.Errorf(galley.Unauthenticated, server, "the server asks for a certificate of the client's").
			WithRemedy("set GALLEY_CERT and GALLEY_KEY to one that comes from the server's --tls-client-ca")
	case has("authentication handshake failed"):
		_, why, _ := strings.Cut(message, "authentication handshake failed: ")
		return galley.Errorf(galley.Unavailable, server, "no trusted TLS connection can be made: %s", strings.Trim(why, `"`)).
			WithRemedy("set GALLEY_CA to the CA of the server's certificate; write http://HOST:PORT for a server on this machine without TLS")
	case has("server preface", "client preface", "connection reset by peer", "broken pipe", "error reading from server: EOF"):
		// How a connection that is refused ends depends on who was quicker.
		return galley.Errorf(galley.Unavailable, server, "what answers there ends the connection before a word").
			WithRemedy("write https://HOST:PORT if it speaks TLS; set GALLEY_CERT and GALLEY_KEY if it asks for a client's certificate; the gRPC port is 8001, not 8000")
	}
	return nil
}
