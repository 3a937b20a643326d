package firestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store"
)

// The queries for recognitions need these indexes, and no others:
//
//   - state, ascending: Pending, in the order of ids.
//   - tier, ascending: CountRecognized.
//   - (shard, recognized_at) and (tier, shard, recognized_at), descending by the last: Recognitions, of all tiers and of one. An
//     index on the time alone would limit new recognitions to some 500 a second
//     (https://cloud.google.com/firestore/docs/solutions/shard-timestamp). With the shard in front, that limit holds per shard.
//
// Recognitions of a contributor have document ids with a prefix of their own, and need none.

// The fields of a recognition besides contributions: the event, its state, and times by Firestore's clock.
const (
	fieldContributor     = "contributor"
	fieldRecognitionTier = "tier"
	fieldRecognizedAt    = "recognized_at"
	fieldState           = "state"
	fieldCreatedAt       = "created_at"
	fieldClaimedAt       = "claimed_at"
	fieldSentAt          = "sent_at"
	fieldShard           = "shard"

	statePending = "pending"
	stateSent    = "sent"
)

// recognitionShards is the number of shards of the index by time, each good for some 500 new recognitions a second. Recognitions
// reads all shards in one query and is billed for what it returns. It never finds documents without a shard or with a higher
// one, so the number can be raised but not lowered.
const recognitionShards = 8

// maxBatchWrite is the maximum number of documents in one BatchWrite (https://cloud.google.com/firestore/quotas).
const maxBatchWrite = 500

// Recognize creates a pending recognition and raises the contributor's recognized tier to its tier, unless that is higher
// already, in one atomic Commit without a read. It returns store.ErrExists if the recognition exists and store.ErrNotFound if
// the contributor does not. After any other error the outcome is unknown. The client retries calls itself, so ErrExists may
// also mean that this call has created the recognition.
func (c *Client) Recognize(ctx context.Context, r store.Recognition) error {
	id := store.RecognitionID(r.Contributor, r.Tier)
	err := c.commit(ctx,
		&firestorepb.Write{
			CurrentDocument: exists(false),
			Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
				Name: c.name(store.Recognitions, id),
				Fields: map[string]*firestorepb.Value{
					fieldContributor:     text(r.Contributor),
					fieldRecognitionTier: integer(r.Tier),
					fieldContributions:   integer(r.Contributions),
					fieldRecognizedAt:    timestamp(r.RecognizedAt),
					fieldState:           text(statePending),
					fieldShard:           integer(int64(increment.Partition(id, recognitionShards))),
				},
			}},
			UpdateTransforms: []*firestorepb.DocumentTransform_FieldTransform{now(fieldCreatedAt)},
		},
		c.raise(r.Contributor, r.Tier))
	if err != nil {
		return fmt.Errorf("recognize: %w", err)
	}
	return nil
}

// Raise raises a contributor's recognized tier to that of an existing recognition, unless it is as high already. It returns
// store.ErrNotFound and changes nothing if the recognition or the contributor does not exist.
func (c *Client) Raise(ctx context.Context, contributor string, tier int64) error {
	// An update of no fields changes nothing; it only checks its precondition.
	recognized := &firestorepb.Write{
		CurrentDocument: exists(true),
		Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
			Name: c.name(store.Recognitions, store.RecognitionID(contributor, tier)),
		}},
		UpdateMask: &firestorepb.DocumentMask{},
	}
	if err := c.commit(ctx, recognized, c.raise(contributor, tier)); err != nil {
		return fmt.Errorf("raise the recognized tier: %w", err)
	}
	return nil
}

// raise returns the write that raises a contributor's recognized tier. In whatever order such writes arrive, the tier never
// falls.
func (c *Client) raise(contributor string, tier int64) *firestorepb.Write {
	return &firestorepb.Write{
		CurrentDocument: exists(true),
		Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
			Name: c.name(store.Contributors, store.ContributorID(contributor)),
		}},
		UpdateMask: &firestorepb.DocumentMask{},
		UpdateTransforms: []*firestorepb.DocumentTransform_FieldTransform{{
			FieldPath:     fieldTier,
			TransformType: &firestorepb.DocumentTransform_FieldTransform_Maximum{Maximum: integer(tier)},
		}},
	}
}

// commit commits writes whose only preconditions are about existence. After contention (ABORTED) the outcome is unknown.
func (c *Client) commit(ctx context.Context, writes ...*firestorepb.Write) error {
	_, err := c.api.Commit(ctx, &firestorepb.CommitRequest{Database: c.database, Writes: writes})
	if err == nil {
		return nil
	}
	err = redact(err)
	switch status.Code(err) {
	case codes.AlreadyExists:
		return fmt.Errorf("commit: %w: %w", store.ErrExists, err)
	case codes.NotFound:
		return fmt.Errorf("commit: %w: %w", store.ErrNotFound, err)
	case codes.InvalidArgument:
		return fmt.Errorf("commit: %w: %w", store.ErrRefused, err)
	default:
		return classify("commit", err)
	}
}

// maxOfContributor bounds the recognitions that are read of one contributor, far above the number of tiers that can be configured.
const maxOfContributor = 1000

// Recognitions returns a page of up to limit recognitions of a filter, and the time of the read. They are ordered by time and then
// by document id, both descending. After is the last recognition of the previous page, or zero for the first page. Firestore bills
// the documents of the page or, with a contributor, all recognitions of that contributor: one for each tier.
func (c *Client) Recognitions(
	ctx context.Context, filter store.RecognitionFilter, after store.Recognition, limit int,
) ([]store.Recognition, time.Time, error) {
	q := &firestorepb.StructuredQuery{From: c.from(store.Recognitions)}
	if filter.Contributor != "" {
		q.Where, q.Limit = c.ofContributor(filter.Contributor), limitOf(maxOfContributor)
	} else {
		shards := make([]*firestorepb.Value, recognitionShards)
		for i := range shards {
			shards[i] = integer(int64(i))
		}
		filters := []*firestorepb.StructuredQuery_Filter{where(fieldShard, in, &firestorepb.Value{ValueType: &firestorepb.Value_ArrayValue{
			ArrayValue: &firestorepb.ArrayValue{Values: shards},
		}})}
		if filter.Tier != 0 {
			filters = append(filters, where(fieldRecognitionTier, equal, integer(filter.Tier)))
		}
		if !filter.Since.IsZero() {
			filters = append(filters, where(fieldRecognizedAt, atLeast, timestamp(filter.Since)))
		}
		q.Where, q.Limit = both(filters...), limitOf(limit)
		q.OrderBy = []*firestorepb.StructuredQuery_Order{by(fieldRecognizedAt, true), by(fieldName, true)}
		if after.Contributor != "" {
			q.StartAt = startAfter(timestamp(after.RecognizedAt),
				c.reference(store.Recognitions, store.RecognitionID(after.Contributor, after.Tier)))
		}
	}
	var page []store.Recognition
	last, err := c.query(ctx, q, func(doc *firestorepb.Document) error {
		if r, ok := recognitionOf(doc); ok {
			page = append(page, r)
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read recognitions: %w", err)
	}
	if filter.Contributor != "" {
		page = filter.Page(page, after, limit)
	}
	return page, last.GetReadTime().AsTime(), nil
}

// ofContributor returns the filter for the recognitions of a contributor, which needs no index.
func (c *Client) ofContributor(contributor string) *firestorepb.StructuredQuery_Filter {
	first := store.RecognitionIDPrefix(contributor)
	return both(
		where(fieldName, atLeast, c.reference(store.Recognitions, first)),
		where(fieldName, below, c.reference(store.Recognitions, first[:len(first)-1]+";")), // ";" follows ":"
	)
}

// Pending returns a page of up to limit pending recognitions in the order of their document ids, and the time of the read.
// After is the last recognition of the previous page, or zero for the first page.
func (c *Client) Pending(
	ctx context.Context, after store.Recognition, limit int,
) ([]store.PendingRecognition, time.Time, error) {
	q := &firestorepb.StructuredQuery{
		From:    c.from(store.Recognitions),
		Where:   where(fieldState, equal, text(statePending)),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldName, false)},
		Limit:   limitOf(limit),
	}
	if after.Contributor != "" {
		q.StartAt = startAfter(c.reference(store.Recognitions, store.RecognitionID(after.Contributor, after.Tier)))
	}
	var all []store.PendingRecognition
	last, err := c.query(ctx, q, func(doc *firestorepb.Document) error {
		if r, ok := recognitionOf(doc); ok {
			all = append(all, store.PendingRecognition{
				Recognition: r,
				CreatedAt:   doc.GetFields()[fieldCreatedAt].GetTimestampValue().AsTime(),
				Revision:    store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()},
			})
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read pending recognitions: %w", err)
	}
	return all, last.GetReadTime().AsTime(), nil
}

// Claim changes the revisions of pending recognitions and returns those whose revision was current: of several callers that
// claim a recognition at the same revision, one succeeds. After an error it is unknown which were claimed.
func (c *Client) Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error) {
	writes := make([]*firestorepb.Write, len(pending))
	for i, p := range pending {
		writes[i] = &firestorepb.Write{
			CurrentDocument: &firestorepb.Precondition{ConditionType: &firestorepb.Precondition_UpdateTime{
				UpdateTime: timestamppb.New(p.Revision.UpdateTime),
			}},
			Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
				Name: c.name(store.Recognitions, store.RecognitionID(p.Contributor, p.Tier)),
			}},
			UpdateMask:       &firestorepb.DocumentMask{},
			UpdateTransforms: []*firestorepb.DocumentTransform_FieldTransform{now(fieldClaimedAt)},
		}
	}
	results, err := c.batchWrite(ctx, writes)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	var claimed []store.PendingRecognition
	for i, code := range results {
		if code == codes.OK {
			claimed = append(claimed, pending[i])
		}
	}
	return claimed, nil
}

// MarkSent records that the events of recognitions are published. It skips recognitions that are marked already or do not
// exist. After an error it is unknown which were marked.
func (c *Client) MarkSent(ctx context.Context, sent []store.Recognition) error {
	writes := make([]*firestorepb.Write, len(sent))
	for i, r := range sent {
		writes[i] = &firestorepb.Write{
			CurrentDocument: exists(true),
			Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
				Name:   c.name(store.Recognitions, store.RecognitionID(r.Contributor, r.Tier)),
				Fields: map[string]*firestorepb.Value{fieldState: text(stateSent)},
			}},
			UpdateMask:       &firestorepb.DocumentMask{FieldPaths: []string{fieldState}},
			UpdateTransforms: []*firestorepb.DocumentTransform_FieldTransform{now(fieldSentAt)},
		}
	}
	results, err := c.batchWrite(ctx, writes)
	if err != nil {
		return fmt.Errorf("mark sent: %w", err)
	}
	for _, code := range results {
		if code != codes.OK && code != codes.NotFound {
			return fmt.Errorf("mark sent: %w", status.Error(code, "one write failed"))
		}
	}
	return nil
}

// batchWrite applies writes independently of each other and returns the result of each.
func (c *Client) batchWrite(ctx context.Context, writes []*firestorepb.Write) ([]codes.Code, error) {
	results := make([]codes.Code, 0, len(writes))
	for some := range slices.Chunk(writes, maxBatchWrite) {
		response, err := c.api.BatchWrite(ctx, &firestorepb.BatchWriteRequest{Database: c.database, Writes: some})
		if err != nil {
			return nil, classify("batch write", err)
		}
		if len(response.GetStatus()) != len(some) {
			return nil, errors.New("batch write: missing results")
		}
		for _, s := range response.GetStatus() {
			results = append(results, codes.Code(s.GetCode())) //nolint:gosec // a gRPC code
		}
	}
	return results, nil
}

// withoutRecognition returns the contributors that have no recognition of a tier.
func (c *Client) withoutRecognition(ctx context.Context, all []store.Contributor, tier int64) ([]store.Contributor, error) {
	if len(all) == 0 {
		return nil, nil
	}
	ids := make([]string, len(all))
	for i, contributor := range all {
		ids[i] = store.RecognitionID(contributor.ID, tier)
	}
	found, err := c.existing(ctx, store.Recognitions, ids)
	if err != nil {
		return nil, fmt.Errorf("find recognitions of tier %d: %w", tier, err)
	}
	var missing []store.Contributor
	for i, contributor := range all {
		if !found[ids[i]] {
			missing = append(missing, contributor)
		}
	}
	return missing, nil
}

// recognitionOf reads a recognition. It reports false for a document that is not one.
func recognitionOf(doc *firestorepb.Document) (store.Recognition, bool) {
	fields := doc.GetFields()
	r := store.Recognition{
		Contributor:   fields[fieldContributor].GetStringValue(),
		Tier:          fields[fieldRecognitionTier].GetIntegerValue(),
		Contributions: fields[fieldContributions].GetIntegerValue(),
		RecognizedAt:  fields[fieldRecognizedAt].GetTimestampValue().AsTime(),
	}
	return r, id(doc) == store.RecognitionID(r.Contributor, r.Tier)
}

// now returns the transform that sets a field to the time of the write by Firestore's clock.
func now(field string) *firestorepb.DocumentTransform_FieldTransform {
	return &firestorepb.DocumentTransform_FieldTransform{
		FieldPath: field,
		TransformType: &firestorepb.DocumentTransform_FieldTransform_SetToServerValue{
			SetToServerValue: firestorepb.DocumentTransform_FieldTransform_REQUEST_TIME,
		},
	}
}

func exists(yes bool) *firestorepb.Precondition {
	return &firestorepb.Precondition{ConditionType: &firestorepb.Precondition_Exists{Exists: yes}}
}

func text(s string) *firestorepb.Value {
	return &firestorepb.Value{ValueType: &firestorepb.Value_StringValue{StringValue: s}}
}
