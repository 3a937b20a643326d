package firestore

import (
	"context"
	"errors"
	"io"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The operators of queries, and the name of the field for document ids.
const (
	equal   = firestorepb.StructuredQuery_FieldFilter_EQUAL
	above   = firestorepb.StructuredQuery_FieldFilter_GREATER_THAN
	atLeast = firestorepb.StructuredQuery_FieldFilter_GREATER_THAN_OR_EQUAL
	below   = firestorepb.StructuredQuery_FieldFilter_LESS_THAN
	in      = firestorepb.StructuredQuery_FieldFilter_IN

	fieldName = "__name__"
)

func (c *Client) from(collection string) []*firestorepb.StructuredQuery_CollectionSelector {
	return []*firestorepb.StructuredQuery_CollectionSelector{{CollectionId: c.prefix + collection}}
}

func where(field string, op firestorepb.StructuredQuery_FieldFilter_Operator, value *firestorepb.Value) *firestorepb.StructuredQuery_Filter {
	return &firestorepb.StructuredQuery_Filter{FilterType: &firestorepb.StructuredQuery_Filter_FieldFilter{
		FieldFilter: &firestorepb.StructuredQuery_FieldFilter{Field: reference(field), Op: op, Value: value},
	}}
}

func both(filters ...*firestorepb.StructuredQuery_Filter) *firestorepb.StructuredQuery_Filter {
	return &firestorepb.StructuredQuery_Filter{FilterType: &firestorepb.StructuredQuery_Filter_CompositeFilter{
		CompositeFilter: &firestorepb.StructuredQuery_CompositeFilter{
			Op: firestorepb.StructuredQuery_CompositeFilter_AND, Filters: filters,
		},
	}}
}

func by(field string, descending bool) *firestorepb.StructuredQuery_Order {
	order := &firestorepb.StructuredQuery_Order{Field: reference(field), Direction: firestorepb.StructuredQuery_ASCENDING}
	if descending {
		order.Direction = firestorepb.StructuredQuery_DESCENDING
	}
	return order
}

// startAfter returns a cursor after the document with the given values in the fields that the query is ordered by.
func startAfter(values ...*firestorepb.Value) *firestorepb.Cursor {
	return &firestorepb.Cursor{Values: values, Before: false}
}

func reference(field string) *firestorepb.StructuredQuery_FieldReference {
	return &firestorepb.StructuredQuery_FieldReference{FieldPath: field}
}

func limitOf(n int) *wrapperspb.Int32Value {
	return wrapperspb.Int32(int32(n)) //nolint:gosec // callers page by thousands at most
}

// reference returns a value with the name of a document.
func (c *Client) reference(collection, id string) *firestorepb.Value {
	return &firestorepb.Value{ValueType: &firestorepb.Value_ReferenceValue{ReferenceValue: c.name(collection, id)}}
}

// count returns the number of documents that a query finds.
func (c *Client) count(ctx context.Context, q *firestorepb.StructuredQuery) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	const alias = "n"
	stream, err := c.api.RunAggregationQuery(ctx, &firestorepb.RunAggregationQueryRequest{
		Parent: c.documents(),
		QueryType: &firestorepb.RunAggregationQueryRequest_StructuredAggregationQuery{
			StructuredAggregationQuery: &firestorepb.StructuredAggregationQuery{
				QueryType: &firestorepb.StructuredAggregationQuery_StructuredQuery{StructuredQuery: q},
				Aggregations: []*firestorepb.StructuredAggregationQuery_Aggregation{{
					Alias:    alias,
					Operator: &firestorepb.StructuredAggregationQuery_Aggregation_Count_{Count: &firestorepb.StructuredAggregationQuery_Aggregation_Count{}},
				}},
			},
		},
	})
	if err != nil {
		return 0, classify("count", err)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return 0, classify("count", err)
		}
		if n, ok := response.GetResult().GetAggregateFields()[alias]; ok {
			return n.GetIntegerValue(), nil
		}
	}
}

// existing returns which of the documents exist.
func (c *Client) existing(ctx context.Context, collection string, ids []string) (map[string]bool, error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = c.name(collection, id)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.BatchGetDocuments(ctx, &firestorepb.BatchGetDocumentsRequest{
		Database: c.database, Documents: names, Mask: &firestorepb.DocumentMask{FieldPaths: []string{fieldState}},
	})
	if err != nil {
		return nil, classify("read", err)
	}
	found := make(map[string]bool, len(ids))
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, classify("read", err)
		}
		if doc := response.GetFound(); doc != nil {
			found[id(doc)] = true
		}
	}
}
