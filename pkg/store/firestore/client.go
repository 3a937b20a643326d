// Package firestore is the store on Cloud Firestore, by the generated client: one blind atomic Commit with a
// precondition, and reads of whole documents. There are no read-write transactions (they lock, and the emulator
// deadlocks on them) and no listeners (design sections 4 and 5b).
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

// connections is how many gRPC connections share the calls: one carries at most 100 at a time.
const connections = 4

// maxResponse bounds one response, in bytes: above the 1 MiB that a document may have.
const maxResponse = 16 << 20

// Client reads and commits the documents of one database. Its methods may be called at the same time.
type Client struct {
	api      *apiv1.Client
	database string // projects/P/databases/D
}

// Connect makes a client of a project's database. With emulatorHost, host:port, it speaks to an emulator without
// credentials; otherwise to Google Cloud with the application's default credentials. It does not wait for an answer:
// Check does.
func Connect(ctx context.Context, project, database, emulatorHost string) (*Client, error) {
	r := newRouting(project, database)
	options := []option.ClientOption{
		option.WithGRPCConnectionPool(connections),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse))),
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(r.unary)),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(r.stream)),
		// The services trace committing themselves, and a span for each read would drown them.
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
	return &Client{api: api, database: r.prefix}, nil
}

// Close ends the connections.
func (c *Client) Close() error {
	if err := c.api.Close(); err != nil {
		return fmt.Errorf("close firestore: %w", err)
	}
	return nil
}

// Check asks for a document that need not exist: it fails when Firestore does not answer, or not us.
func (c *Client) Check(ctx context.Context) error {
	if _, _, err := c.get(ctx, store.Partitions, store.PartitionID(0), fieldVersion); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// owner passes the emulator's security rules, as a service account passes those of Google Cloud.
type owner struct{}

func (owner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (owner) RequireTransportSecurity() bool { return false }

func (c *Client) documents() string { return c.database + "/documents" }

func (c *Client) name(collection, id string) string {
	return c.documents() + "/" + collection + "/" + id
}

// get returns a document with the named fields only (all without any) and the time of the read, or store.ErrNotFound
// with that time. It asks by BatchGetDocuments, which tells a missing document from a missing database.
func (c *Client) get(ctx context.Context, collection, id string, fields ...string) (*firestorepb.Document, time.Time, error) {
	request := &firestorepb.BatchGetDocumentsRequest{Database: c.database, Documents: []string{c.name(collection, id)}}
	if len(fields) > 0 {
		request.Mask = &firestorepb.DocumentMask{FieldPaths: fields}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream, whatever is left in it
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

// query calls each with every result of q, in order, and returns the last response, which has the time of the read.
func (c *Client) query(
	ctx context.Context, q *firestorepb.StructuredQuery, each func(*firestorepb.Document) error,
) (*firestorepb.RunQueryResponse, error) {
	return c.queryBelow(ctx, c.documents(), q, each)
}

// queryBelow is query for the collections below a document.
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

// discreet keeps the ids of people out of what Firestore says: it names the document that a Commit fails for, by its path
// or in a form of the emulator's own, and errors end in logs. What comes after the name of a collection of theirs is left
// out.
func discreet(err error) error {
	text := err.Error()
	for _, collection := range []string{store.Contributors, store.Recognitions} {
		if before, _, found := strings.Cut(text, collection); found {
			text = before + collection + "…"
		}
	}
	if text == err.Error() {
		return err
	}
	return &discreetError{text, err}
}

// discreetError is an error that says less.
type discreetError struct {
	text string
	err  error
}

func (e *discreetError) Error() string { return e.text }

func (e *discreetError) Unwrap() error { return e.err }

// classifyCommit gives an error of a Commit the cases that package store names. Everything else leaves its outcome
// unknown.
func classifyCommit(err error) error {
	err = discreet(err)
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return fmt.Errorf("commit: %w: %w", store.ErrConflict, err)
	case codes.InvalidArgument:
		return fmt.Errorf("commit: %w: %w", store.ErrRefused, err)
	default:
		return classify("commit", err)
	}
}

// classify makes the end of a context, which gRPC reports as a status of its own, one that errors.Is knows.
func classify(call string, err error) error {
	err = discreet(err)
	switch status.Code(err) {
	case codes.Canceled:
		return fmt.Errorf("%s: %w: %w", call, context.Canceled, err)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w: %w", call, context.DeadlineExceeded, err)
	default:
		return fmt.Errorf("%s: %w", call, err)
	}
}

// id is the last part of a document's name.
func id(doc *firestorepb.Document) string {
	return doc.GetName()[strings.LastIndexByte(doc.GetName(), '/')+1:]
}
