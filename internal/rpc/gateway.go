package rpc

import (
	"context"
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// A gateway answers over HTTP what the services answer over gRPC: a method
// with the option google.api.http has the route that the option says. Calls
// run in this process, through the interceptors that calls over gRPC pass, so
// that access, limits and logs are decided in one place.
//
// It is a grpc.ServiceRegistrar: a service registered with it is registered
// with the gRPC server, too.
type gateway struct {
	grpc   *grpc.Server
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
	routes []route
	stall  time.Duration // that a reader or writer may take for the next piece of a body
}

// A route is a method's place on the HTTP port.
type route struct {
	verb, path string
	body       string // the request's field that the body is; * for all of it, empty for none
	fullMethod string
	method     protoreflect.MethodDescriptor
	service    any
	unary      *grpc.MethodDesc // either this
	stream     *grpc.StreamDesc // or this
}

// RegisterService implements grpc.ServiceRegistrar.
func (g *gateway) RegisterService(desc *grpc.ServiceDesc, service any) {
	g.grpc.RegisterService(desc, service)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
	if err != nil {
		return // not described: it has no options either
	}
	methods := found.(protoreflect.ServiceDescriptor).Methods()
	add := func(name string, unary *grpc.MethodDesc, stream *grpc.StreamDesc) {
		method := methods.ByName(protoreflect.Name(name))
		rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok || rule == nil {
			return
		}
		r := route{
			body: rule.GetBody(), method: method, service: service, unary: unary, stream: stream,
			fullMethod: "/" + desc.ServiceName + "/" + name,
		}
		r.verb, r.path = patternOf(rule)
		g.routes = append(g.routes, r)
	}
	for i := range desc.Methods {
		add(desc.Methods[i].MethodName, &desc.Methods[i], nil)
	}
	for i := range desc.Streams {
		add(desc.Streams[i].StreamName, nil, &desc.Streams[i])
	}
}

func patternOf(rule *annotations.HttpRule) (verb, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	default:
		return "", ""
	}
}

// handle adds the routes to a mux. What a path does not take is refused with
// those that it does.
func (g *gateway) handle(a *httpAPI) {
	taken := map[string][]string{}
	for _, r := range g.routes {
		a.mux.HandleMethod(r.verb+" "+r.path, r.fullMethod, func(w http.ResponseWriter, request *http.Request) { g.serve(a, r, w, request) })
		taken[r.path] = append(taken[r.path], r.verb)
	}
	for path, verbs := range taken {
		a.mux.Refuse(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(verbs, ", "))
			a.failControl(w, &refusal{http.StatusMethodNotAllowed, printable(r.URL.Path) + " does not take " + printable(r.Method) + "; use " + strings.Join(verbs, " or ")})
		})
	}
}

// serve answers one request.
func (g *gateway) serve(a *httpAPI, route route, w http.ResponseWriter, r *http.Request) {
	ctx, transport := callContext(w, r, route.fullMethod)
	answer := &reply{writer: w, control: http.NewResponseController(w), stall: g.stall}
	if err := g.call(ctx, a, route, r, answer); err != nil {
		transport.copyHeader(w)
		if !answer.begun {
			answer.stalls() // the method may have taken longer than any answer
			a.failControl(w, err)
			return
		}
		answer.failed(controlError(err))
		return
	}
	if err := answer.finish(); err != nil {
		a.log.Debug("an answer did not reach its reader", "method", route.fullMethod, "error", err)
	}
}

// call runs a route's method. A panic is an error.
func (g *gateway) call(ctx context.Context, a *httpAPI, route route, r *http.Request, answer *reply) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = finish(ctx, a.log, route.fullMethod, panicked, nil)
		}
	}()
	if route.unary != nil {
		request, err := readRequest(route, r)
		if err != nil {
			return err
		}
		message, err := route.unary.Handler(route.service, ctx, func(into any) error {
			proto.Merge(into.(proto.Message), request)
			return nil
		}, g.unary)
		if err != nil {
			return err
		}
		return answer.send(message.(proto.Message))
	}
	stream := &localStream{ctx: ctx, send: answer.send}
	var form *upload
	if route.stream.ClientStreams {
		form, err = newUpload(route, r, answer.control, g.stall)
		if err != nil {
			return err
		}
		stream.next = form.next
	} else {
		request, err := readRequest(route, r)
		if err != nil {
			return err
		}
		stream.next = once(request)
	}
	if route.stream.ServerStreams {
		answer.many(route.method.Output())
	}
	info := &grpc.StreamServerInfo{
		FullMethod: route.fullMethod, IsClientStream: route.stream.ClientStreams, IsServerStream: route.stream.ServerStreams,
	}
	err = g.stream(route.service, stream, info, route.stream.Handler)
	if err != nil && form != nil && form.err != nil {
		return form.err // which the method words as its own
	}
	return err
}

// chainUnary makes one interceptor of several, the first outermost.
func chainUnary(all ...grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		for i := len(all) - 1; i >= 0; i-- {
			inner := handler
			handler = func(ctx context.Context, request any) (any, error) { return all[i](ctx, request, info, inner) }
		}
		return handler(ctx, request)
	}
}

// chainStream does the same for streams.
func chainStream(all ...grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		for i := len(all) - 1; i >= 0; i-- {
			inner := handler
			handler = func(service any, stream grpc.ServerStream) error { return all[i](service, stream, info, inner) }
		}
		return handler(service, stream)
	}
}
