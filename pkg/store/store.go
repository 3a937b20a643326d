// Package store is the vocabulary of what is kept: documents, their ids, and the Commit that changes them together
// (docs/design/protocol.md). The adapters are store/firestore and store/embedded; both pass the contract suite in
// store/storetest. Each service declares the interface that it needs of them.
package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// The collections.
const (
	Tags         = "tags"
	Contributors = "contributors"
	Partitions   = "partitions"
	Recognitions = "recognitions"
	Rejected     = "rejected"

	// Below each partition.

	Keys    = "keys"
	Minutes = "minutes"
	Hours   = "hours"
)

var (
	// ErrConflict is returned by a Commit whose checkpoint is not the one that was loaded: another process committed the
	// partition, or an earlier Commit of this one succeeded and its reply was lost. Nothing was changed. Load again.
	ErrConflict = errors.New("the checkpoint has changed")
	// ErrRefused is returned by a Commit that can never succeed. Nothing was changed. Do not retry.
	ErrRefused = errors.New("the store refuses the commit")
	// ErrNotFound is returned when a document does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned by the creation of a document that exists. Nothing was changed.
	ErrExists = errors.New("exists already")
	// Any other error of a Commit leaves its outcome unknown: it may have been applied, or may still be. Load again.
)

// Revision is the state of a checkpoint's document that a Commit may replace: the document's update time. The zero
// value is a document that does not exist.
type Revision struct{ UpdateTime time.Time }

// State is one partition as it was loaded, and what a Commit needs to replace it.
type State struct {
	Checkpoint checkpoint.Checkpoint
	Revision   Revision
	// ReadAt is the time of the read, by the store's clock.
	ReadAt time.Time
}

// Commit is the change of one partition: its next checkpoint and the documents that change with it, all or nothing.
type Commit struct {
	Partition uint32
	// Revision is the state that Next was made from. The Commit is ErrConflict if it is no longer the present one.
	Revision Revision
	Next     checkpoint.Checkpoint
	Tags     []checkpoint.Delta
	// AcceptedAt is when the first entry that is counted was accepted, by ingest's clock. Zero is not known.
	AcceptedAt time.Time
	// Contributors holds each contributor at most once.
	Contributors []Contributions
	// Keys are the idempotency keys of what is counted, which are kept for KeepKeys at least.
	Keys     []checkpoint.SeenKey
	KeepKeys time.Duration
	// Closed are the periods of the partition's history that are over with this Commit.
	Closed []checkpoint.Period
	// Rejected are the entries of the settled messages that could not be counted. They become one document, and together
	// stay within checkpoint.MaxRejected.
	Rejected []checkpoint.Rejected
	// Redriven, unless it is nil, is the document of rejected entries that the Commit counts from.
	Redriven *Redriven
}

// Redriven is the change of a document of rejected entries by the Commit that counts some of them. The Commit is
// ErrConflict if the document has changed since it was read, or is gone.
type Redriven struct {
	// From is the document as it was read.
	From RejectedEntries
	// Left are the entries that remain in it. Without any it is deleted.
	Left []checkpoint.Rejected
}

// Documents counts the documents of tags and contributors that change.
func (c *Commit) Documents() int { return len(c.Tags) + len(c.Contributors) }

// Contributions is what one window adds to one contributor.
type Contributions struct {
	Contributor   string
	Contributions int64
}

// CommitKeys are the idempotency keys of one Commit.
type CommitKeys struct {
	KeysPosition
	Keys []checkpoint.SeenKey
}

// KeysPosition is the place of a Commit's keys among those of its partition, which are in the order of time, by the second,
// and of Commits within it. The zero value is before all.
type KeysPosition struct {
	// At is when the Commit was made, by the store's clock, to the millisecond.
	At     time.Time
	Commit uint64
}

// RejectedEntries are the entries that one Commit could not count, less what was redriven.
type RejectedEntries struct {
	Partition uint32
	Commit    uint64
	// RejectedAt is when the Commit was made, by the store's clock.
	RejectedAt time.Time
	Revision   Revision
	Entries    []checkpoint.Rejected
}

// ID returns the id of the document that holds the entries.
func (r *RejectedEntries) ID() string { return RejectedID(r.Partition, r.Commit) }

// Period is a minute or an hour of a partition that is over.
type Period struct {
	Begin time.Time
	// Changes is what checkpoint.PackChanges packed.
	Changes []byte
}

// Retention is how long after its end a period can be read: a day of minutes, thirty of hours. The store may keep it for
// longer.
func Retention(r checkpoint.Resolution) time.Duration {
	if r == checkpoint.Hour {
		return 30 * 24 * time.Hour
	}
	return 24 * time.Hour
}

// PartitionTotals is one partition as query reads it.
type PartitionTotals struct {
	Partition uint32
	Revision  Revision
	Totals    []checkpoint.Total
	UpdatedAt time.Time
	// AcceptedAt is that of the latest Commit.
	AcceptedAt time.Time
	// Err is why the checkpoint cannot be read: it is damaged or of a later version. Only Partition and Revision are set
	// then, and the other partitions are not affected.
	Err error
}

// Tag is the document of one tag, which Firebase clients and the audit read.
type Tag struct {
	Name       string
	Total      int64
	Increments int64
	UpdatedAt  time.Time
}

// Contributor is the document of one contributor.
type Contributor struct {
	ID             string
	Contributions  int64
	RecognizedTier int64
	UpdatedAt      time.Time
}

// TagID returns the document id of a tag. The prefix keeps lawful names such as __init__ and ___ clear of the ids that
// Firestore reserves (https://firebase.google.com/docs/firestore/quotas).
func TagID(name string) string { return "t-" + name }

// TagName is the inverse of TagID.
func TagName(id string) (string, error) {
	name, ok := strings.CutPrefix(id, "t-")
	if !ok {
		return "", fmt.Errorf("document id %q is not of a tag", id)
	}
	return name, nil
}

var (
	escape   = strings.NewReplacer("%", "%25", "/", "%2F")
	unescape = strings.NewReplacer("%2F", "/", "%25", "%")
)

// ContributorID returns the document id of a contributor. Firestore takes any UTF-8 in an id but "/", "." and ".."
// alone, and __x__: the prefix settles all but the slash, which is escaped, and so is the sign of the escape. At most
// 2 + 3*512 bytes of text come to 1,500 or fewer, since only characters of one byte grow.
func ContributorID(contributor string) string {
	return "c-" + escape.Replace(contributor)
}

// ContributorOf is the inverse of ContributorID.
func ContributorOf(id string) (string, error) {
	escaped, ok := strings.CutPrefix(id, "c-")
	if !ok {
		return "", fmt.Errorf("document id %q is not of a contributor", id)
	}
	return unescape.Replace(escaped), nil
}

// PartitionID returns the document id of a partition's checkpoint.
func PartitionID(partition uint32) string { return strconv.FormatUint(uint64(partition), 10) }

// PartitionOf is the inverse of PartitionID.
func PartitionOf(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("document id %q is not of a partition: %w", id, err)
	}
	return uint32(n), nil
}

// PeriodsOf is the collection, below a partition, of the periods of a resolution.
func PeriodsOf(r checkpoint.Resolution) string {
	if r == checkpoint.Hour {
		return Hours
	}
	return Minutes
}

// periodID is the form of PeriodID: it sorts as the times do.
const periodID = "2006-01-02T15:04Z"

// PeriodID returns the document id of the period that begins at a time.
func PeriodID(begin time.Time) string { return begin.UTC().Format(periodID) }

// PeriodOf is the inverse of PeriodID.
func PeriodOf(id string) (time.Time, error) {
	begin, err := time.Parse(periodID, id)
	if err != nil {
		return time.Time{}, fmt.Errorf("document id %q is not of a period: %w", id, err)
	}
	return begin.UTC(), nil
}

// KeysID returns the document id of a Commit's keys: it sorts as the positions do.
func KeysID(p KeysPosition) string { return fmt.Sprintf("%010d-%020d", max(p.At.Unix(), 0), p.Commit) }

// KeysOf returns the number of the Commit that KeysID was made for.
func KeysOf(id string) (uint64, error) {
	_, number, _ := strings.Cut(id, "-")
	commit, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("document id %q is not of a commit's keys: %w", id, err)
	}
	return commit, nil
}

// RejectedID returns the document id of the entries that a partition's Commit rejected.
func RejectedID(partition uint32, commit uint64) string {
	return PartitionID(partition) + "-" + strconv.FormatUint(commit, 10)
}

// RejectedOf is the inverse of RejectedID.
func RejectedOf(id string) (partition uint32, commit uint64, err error) {
	first, second, _ := strings.Cut(id, "-")
	if partition, err = PartitionOf(first); err != nil {
		return 0, 0, err
	}
	if commit, err = strconv.ParseUint(second, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("document id %q is not of rejected entries: %w", id, err)
	}
	return partition, commit, nil
}
