// Package firestore is the store on Cloud Firestore. It uses the generated client: atomic Commits with preconditions, queries, and
// reads of documents. It uses no read-write transactions, which lock documents and deadlock in the emulator, and no listeners
// (docs/design/protocol.md#commit).
package firestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/connection"
	"github.com/accrue/accrue/pkg/store"
)

// connections is the number of gRPC connections. Each carries at most 100 calls at a time.
const connections = 4

// maxResponse bounds a response in bytes. A document has at most 1 MiB.
const maxResponse = 16 << 20

// Client reads and writes the documents of one database. It is safe for concurrent use.
type Client struct {
	api      *apiv1.Client
	database string // projects/P/databases/D
	unpacker store.Unpacker
	prefix   string // of the names of all collections
}

// Option changes what a Client does.
type Option func(*Client)

// WithPrefix puts a prefix before the names of all collections and subcollections, so that others may share the database.
func WithPrefix(prefix string) Option {
	return func(c *Client) { c.prefix = prefix }
}

// Connect returns a client of a project's database. If emulatorHost is set, as host:port, the client uses that emulator without
// credentials; otherwise it uses Google Cloud with the application default credentials. Connect does not wait for a connection;
// Check does.
func Connect(ctx context.Context, project, database, emulatorHost string, changes ...Option) (*Client, error) {
	r := newRouting(project, database)
	options := []option.ClientOption{
		option.WithGRPCConnectionPool(connections),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse))),
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(r.unary)),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(r.stream)),
		// The services trace their Commits themselves. A span for each read would be too many.
		option.WithTelemetryDisabled(),
	}
	for _, o := range connection.Options() {
		options = append(options, option.WithGRPCDialOption(o))
	}
	if emulatorHost != "" {
		options = append(options,
			option.WithEndpoint(emulatorHost),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			option.WithGRPCDialOption(grpc.WithPerRPCCredentials(owner{})),
		)
	}
	api, err := apiv1.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to firestore: %w", err)
	}
	c := &Client{api: api, database: r.prefix}
	for _, change := range changes {
		change(c)
	}
	return c, nil
}

// Close closes the connections.
func (c *Client) Close() error {
	if err := c.api.Close(); err != nil {
		return fmt.Errorf("close firestore: %w", err)
	}
	return nil
}

// Check returns an error if Firestore does not answer or denies access. It reads one document, which need not exist.
func (c *Client) Check(ctx context.Context) error {
	if _, _, err := c.get(ctx, store.Partitions, store.PartitionID(0), fieldVersion); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// owner makes the emulator ignore security rules, as Firestore does for service accounts.
type owner struct{}

func (owner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (owner) RequireTransportSecurity() bool { return false }

func (c *Client) documents() string { return c.database + "/documents" }

func (c *Client) name(collection, id string) string {
	return c.documents() + "/" + c.prefix + collection + "/" + id
}

// get returns the named fields of a document, or all fields if none is named, and the time of the read. If the document does not
// exist it returns store.ErrNotFound and that time. It uses BatchGetDocuments, which distinguishes a missing document from a
// missing database.
func (c *Client) get(ctx context.Context, collection, id string, fields ...string) (*firestorepb.Document, time.Time, error) {
	request := &firestorepb.BatchGetDocumentsRequest{Database: c.database, Documents: []string{c.name(collection, id)}}
	if len(fields) > 0 {
		request.Mask = &firestorepb.DocumentMask{FieldPaths: fields}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := c.api.BatchGetDocuments(ctx, request)
	if err != nil {
		return nil, time.Time{}, classify("read", err)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, time.Time{}, classify("read", err)
		}
		switch {
		case response.GetFound() != nil:
			return response.GetFound(), response.GetReadTime().AsTime(), nil
		case response.GetMissing() != "":
			return nil, response.GetReadTime().AsTime(), fmt.Errorf("read %s: %w", collection, store.ErrNotFound)
		}
	}
}

// query calls each for every result of q, in order, and returns the last response, which has the time of the read.
func (c *Client) query(
	ctx context.Context, q *firestorepb.StructuredQuery, each func(*firestorepb.Document) error,
) (*firestorepb.RunQueryResponse, error) {
	return c.queryBelow(ctx, c.documents(), q, each)
}

// queryBelow is query for the subcollections of a document.
func (c *Client) queryBelow(
	ctx context.Context, parent string, q *firestorepb.StructuredQuery, each func(*firestorepb.Document) error,
) (*firestorepb.RunQueryResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.RunQuery(ctx, &firestorepb.RunQueryRequest{
		Parent: parent, QueryType: &firestorepb.RunQueryRequest_StructuredQuery{StructuredQuery: q},
	})
	if err != nil {
		return nil, classify("query", err)
	}
	var last *firestorepb.RunQueryResponse
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return nil, classify("query", err)
		}
		last = response
		if doc := response.GetDocument(); doc != nil {
			if err := each(doc); err != nil {
				return nil, err
			}
		}
	}
}

// redact removes contributor ids from an error, since errors are logged. Firestore's errors name the document that a Commit failed
// for, and its emulator formats the name differently, so everything after the name of the collection is cut off.
func redact(err error) error {
	text := err.Error()
	for _, collection := range []string{store.Contributors, store.Recognitions} {
		if before, _, found := strings.Cut(text, collection); found {
			text = before + collection + "…"
		}
	}
	if text == err.Error() {
		return err
	}
	return &redactedError{text, err}
}

// redactedError is an error with a shorter text.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }

func (e *redactedError) Unwrap() error { return e.err }

// classifyCommit wraps the error of a Commit in store.ErrConflict or store.ErrRefused if it is one.
func classifyCommit(err error) error {
	err = redact(err)
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return fmt.Errorf("commit: %w: %w", store.ErrConflict, err)
	case codes.InvalidArgument:
		return fmt.Errorf("commit: %w: %w", store.ErrRefused, err)
	default:
		return classify("commit", err)
	}
}

// classify wraps the error of a call in context.Canceled or context.DeadlineExceeded if gRPC reports it as such.
func classify(call string, err error) error {
	err = redact(err)
	switch status.Code(err) {
	case codes.Canceled:
		return fmt.Errorf("%s: %w: %w", call, context.Canceled, err)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w: %w", call, context.DeadlineExceeded, err)
	default:
		return fmt.Errorf("%s: %w", call, err)
	}
}

// id returns the id of a document.
func id(doc *firestorepb.Document) string {
	return doc.GetName()[strings.LastIndexByte(doc.GetName(), '/')+1:]
}
