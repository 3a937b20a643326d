package firestore

import (
	"context"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// routing sets the headers that name the database of a call. Firestore refuses calls to a named database without them, but the
// generated client sets them for BatchWrite only. The emulator does not check them.
type routing struct{ params, prefix string }

func newRouting(project, database string) routing {
	return routing{
		params: "project_id=" + url.QueryEscape(project) + "&database_id=" + url.QueryEscape(database),
		prefix: "projects/" + project + "/databases/" + database,
	}
}

// outgoing returns ctx with the headers, which replace those of the generated client.
func (r routing) outgoing(ctx context.Context) context.Context {
	headers, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		headers = metadata.MD{}
	}
	headers.Set("x-goog-request-params", r.params)
	headers.Set("google-cloud-resource-prefix", r.prefix)
	return metadata.NewOutgoingContext(ctx, headers)
}

// unary is a grpc.UnaryClientInterceptor.
func (r routing) unary(
	ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return invoke(r.outgoing(ctx), method, request, reply, cc, opts...)
}

// stream is a grpc.StreamClientInterceptor.
func (r routing) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return streamer(r.outgoing(ctx), desc, cc, method, opts...)
}
