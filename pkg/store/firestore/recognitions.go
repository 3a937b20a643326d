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

// What recognitions are queried by needs these indexes, and no others:
//
//   - state, ascending: Pending, which is in the order of ids and leaves it to its caller which are old.
//   - tier, ascending: CountRecognized.
//   - (shard, recognized_at), descending by the latter: Latest. An index on the time alone would cap the rate at which
//     recognitions can be made near 500 a second (https://cloud.google.com/firestore/docs/solutions/shard-timestamp): with
//     the shard before it there are as many ends that grow as there are shards.

// The fields of a recognition, beside contributions: the event, whether it is published, and times by Firestore's clock.
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

// recognitionShards is how many ends the index by time has: recognitions can be made at some 500 a second for each. Latest
// looks at all of them, in one query, and is billed for what it returns. A document without a shard, or with one beyond
// these, is never among the latest: the number can be raised, and not lowered.
const recognitionShards = 8

// maxBatchWrite is how many documents one BatchWrite changes (https://cloud.google.com/firestore/quotas).
const maxBatchWrite = 500

// Recognize makes a recognition, pending, and raises its contributor's recognized tier to its own unless that is higher:
// one Firestore Commit that reads nothing before it, all or nothing. It returns store.ErrExists for a recognition that
// was made before, and store.ErrNotFound for a contributor that does not exist. After any other error the outcome is
// unknown. Since the client tries again underneath, a recognition that this very call has made can be ErrExists too.
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

// Raise raises a contributor's recognized tier to that of a recognition that exists, unless it is as high already. It
// returns store.ErrNotFound, and has changed nothing, if the recognition or the contributor does not exist.
func (c *Client) Raise(ctx context.Context, contributor string, tier int64) error {
	// An update of no field changes nothing and holds only if its precondition does.
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

// raise is the write that lifts a contributor's recognized tier. It never lowers one, in whatever order such writes come.
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

// commit commits writes whose preconditions are of existence alone. Contention is no sign of existence: it leaves the
// outcome unknown.
func (c *Client) commit(ctx context.Context, writes ...*firestorepb.Write) error {
	_, err := c.api.Commit(ctx, &firestorepb.CommitRequest{Database: c.database, Writes: writes})
	if err == nil {
		return nil
	}
	err = discreet(err)
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

// Latest returns up to limit recognitions, the latest first and of one time those with the higher document id, and the time
// of the read.
func (c *Client) Latest(ctx context.Context, limit int) ([]store.Recognition, time.Time, error) {
	shards := make([]*firestorepb.Value, recognitionShards)
	for i := range shards {
		shards[i] = integer(int64(i))
	}
	var latest []store.Recognition
	last, err := c.query(ctx, &firestorepb.StructuredQuery{
		From: from(store.Recognitions),
		Where: where(fieldShard, in, &firestorepb.Value{ValueType: &firestorepb.Value_ArrayValue{
			ArrayValue: &firestorepb.ArrayValue{Values: shards},
		}}),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldRecognizedAt, true), by(fieldName, true)},
		Limit:   limitOf(limit),
	}, func(doc *firestorepb.Document) error {
		if r, ok := recognitionOf(doc); ok {
			latest = append(latest, r)
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the latest recognitions: %w", err)
	}
	return latest, last.GetReadTime().AsTime(), nil
}

// Pending returns up to limit recognitions that are pending, those after one that an earlier page ended with (the zero
// value: from the first), in the order of their document ids, and the time of the read.
func (c *Client) Pending(
	ctx context.Context, after store.Recognition, limit int,
) ([]store.PendingRecognition, time.Time, error) {
	q := &firestorepb.StructuredQuery{
		From:    from(store.Recognitions),
		Where:   where(fieldState, equal, text(statePending)),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldName, false)},
		Limit:   limitOf(limit),
	}
	if after.Contributor != "" {
		q.StartAt = behind(c.reference(store.Recognitions, store.RecognitionID(after.Contributor, after.Tier)))
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

// Claim moves the revisions of pending recognitions, and returns those whose revision was the present one: of several
// who claim the same recognition in the same state, one has it. An error leaves open what was claimed.
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

// MarkSent notes that the events of recognitions are published. Those that are marked already, or exist no longer, are
// passed over. An error leaves open which were marked.
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
			return fmt.Errorf("mark sent: %w", status.Error(code, "of one write"))
		}
	}
	return nil
}

// batchWrite applies writes, each for itself, and returns how each went.
func (c *Client) batchWrite(ctx context.Context, writes []*firestorepb.Write) ([]codes.Code, error) {
	results := make([]codes.Code, 0, len(writes))
	for some := range slices.Chunk(writes, maxBatchWrite) {
		response, err := c.api.BatchWrite(ctx, &firestorepb.BatchWriteRequest{Database: c.database, Writes: some})
		if err != nil {
			return nil, classify("batch write", err)
		}
		if len(response.GetStatus()) != len(some) {
			return nil, errors.New("batch write: the answer lacks results")
		}
		for _, s := range response.GetStatus() {
			results = append(results, codes.Code(s.GetCode())) //nolint:gosec // a code
		}
	}
	return results, nil
}

// withoutRecognition returns those of the contributors who have no recognition of a tier.
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
		return nil, fmt.Errorf("look for recognitions of tier %d: %w", tier, err)
	}
	var missing []store.Contributor
	for i, contributor := range all {
		if !found[ids[i]] {
			missing = append(missing, contributor)
		}
	}
	return missing, nil
}

// recognitionOf reads a recognition. It returns false for a document that is none, whoever may have put it there.
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

// now is the transform that sets a field to the time of the write by Firestore's clock.
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
