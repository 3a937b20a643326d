// Package store defines the documents, their ids, and the Commit that changes them atomically (docs/design/protocol.md). The
// adapters are store/firestore and store/embedded; both pass the contract suite in store/storetest. Each service declares the
// interface that it needs.
package store

import (
	"cmp"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// The collections.
const (
	Tags         = "tags"
	Contributors = "contributors"
	Partitions   = "partitions"
	Recognitions = "recognitions"
	Rejected     = "rejected"
	Layouts      = "layouts"
	Audit        = "audit"

	// Subcollections of each partition.

	Keys    = "keys"
	Folds   = "folds"
	Minutes = "minutes"
	Hours   = "hours"
)

var (
	// ErrConflict is returned by a Commit if the checkpoint has changed since it was loaded: another process committed the
	// partition, or an earlier Commit of this process succeeded and its reply was lost. Nothing was changed. Load again.
	ErrConflict = errors.New("the checkpoint has changed")
	// ErrRefused is returned by a Commit that can never succeed. Nothing was changed. Do not retry.
	ErrRefused = errors.New("the store refuses the commit")
	// ErrNotFound is returned when a document does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned when a document to be created exists already. Nothing was changed.
	ErrExists = errors.New("already exists")
	// After any other error of a Commit its outcome is unknown: it may have been applied, or may still be. Load again.
)

// Revision identifies the state of a document by its update time. The zero value means that the document does not exist.
type Revision struct{ UpdateTime time.Time }

// State is a loaded checkpoint with its revision.
type State struct {
	Checkpoint checkpoint.Checkpoint
	Revision   Revision
	// ReadAt is the time of the read, by the store's clock.
	ReadAt time.Time
}

// Commit is an atomic change of one partition: its next checkpoint and the documents that change with it.
type Commit struct {
	Partition uint32
	// Revision is that of the checkpoint that Next is based on. The Commit returns ErrConflict if it is no longer the current one.
	Revision Revision
	Next     checkpoint.Checkpoint
	// Tags is what the documents of tags get, sorted by name. What they do not get of the change of the totals, Next owes them.
	Tags []checkpoint.Delta
	// AcceptedAt is the time at which ingest accepted the first of the counted entries, by its clock, or zero if unknown.
	AcceptedAt time.Time
	// Contributors has each contributor at most once.
	Contributors []Contributions
	// Keys are the idempotency keys of what is settled, which are kept for KeepKeys at least.
	Keys     []checkpoint.KeyRange
	KeepKeys time.Duration
	// Fold is a copy of the keys of earlier Commits, or nil.
	Fold *Fold
	// Related are other partitions that the Commit relies on: it is ErrConflict if one has changed.
	Related []Related
	// Layouts, unless it is nil, is the change of the document of the Layouts.
	Layouts *LayoutsChange
	// Closed are the periods of the partition's history that end with this Commit.
	Closed []checkpoint.Period
	// Rejected are the entries of the settled messages that could not be counted. They are written to one document and must not
	// exceed checkpoint.MaxRejected.
	Rejected []checkpoint.Rejected
	// Audit is the record of what an operator removes with the Commit, or nil.
	Audit *AuditRecord
	// Redriven is the change of the document whose rejected entries the Commit counts, or nil.
	Redriven *Redriven
}

// Related is another partition as it was peeked at.
type Related struct {
	Partition uint32
	Revision  Revision
	// Layouts is the version of the Layouts that its checkpoint is given. If it has it already, nothing is changed. If there is
	// no checkpoint, an empty one is made.
	Layouts uint64
}

// LayoutsChange replaces the Layouts of a Revision. The Commit returns ErrConflict if they have changed.
type LayoutsChange struct {
	Revision Revision
	Next     checkpoint.Layouts
}

// Peeked has the properties of a partition that show whether it has new keys. All but Partition are zero if the partition has no
// checkpoint.
type Peeked struct {
	Partition uint32
	Revision  Revision
	Commit    uint64
	Layouts   uint64
}

// Owing is a partition whose checkpoint owes something to the documents of tags, since a time.
type Owing struct {
	Partition uint32
	Since     time.Time
}

// AuditRecord records what an operator has removed: rejected entries, the total of a tag in a partition, or a contributor.
type AuditRecord struct {
	// ID is the id of the document. An existing record is replaced.
	ID string
	At time.Time
	// Record is JSON.
	Record []byte
}

// Redriven is the change of a document of rejected entries by the Commit that counts some of them. The Commit returns ErrConflict
// if the document has changed or was deleted since it was read.
type Redriven struct {
	// From is the document as it was read.
	From RejectedEntries
	// Left are the entries that remain. If there are none, the document is deleted.
	Left []checkpoint.Rejected
}

// Documents returns the number of documents of tags and contributors that change.
func (c *Commit) Documents() int { return len(c.Tags) + len(c.Contributors) }

// Contributions is the number of contributions that a window adds to a contributor.
type Contributions struct {
	Contributor   string
	Contributions int64
}

// CommitKeys are the idempotency keys of one Commit.
type CommitKeys struct {
	KeysPosition
	Keys []checkpoint.KeyRange
}

// Fold is a copy of the keys of all Commits of a partition after one position up to another, so that one document can be read
// instead of many.
type Fold struct {
	After KeysPosition
	CommitKeys
}

// KeysPosition is the position of a Commit's keys among those of its partition, ordered by the second of the Commit and then by
// its number. The zero value is before all others.
type KeysPosition struct {
	// At is the time of the Commit by the store's clock, in milliseconds.
	At     time.Time
	Commit uint64
}

// RejectedEntries are the entries that one Commit rejected, without those that were redriven.
type RejectedEntries struct {
	Partition uint32
	Commit    uint64
	// RejectedAt is the time of the Commit by the store's clock.
	RejectedAt time.Time
	Revision   Revision
	Entries    []checkpoint.Rejected
}

// ID returns the id of the document.
func (r *RejectedEntries) ID() string { return RejectedID(r.Partition, r.Commit) }

// Period is a closed minute or hour of a partition.
type Period struct {
	Begin time.Time
	// Changes is a result of checkpoint.PackChanges.
	Changes []byte
}

// Retention returns how long after its end a period can be read: a day for minutes, thirty days for hours. The store may keep it
// longer.
func Retention(r checkpoint.Resolution) time.Duration {
	if r == checkpoint.Hour {
		return 30 * 24 * time.Hour
	}
	return 24 * time.Hour
}

// PartitionTotals has the totals of one partition.
type PartitionTotals struct {
	Partition uint32
	Revision  Revision
	Totals    []checkpoint.Total
	UpdatedAt time.Time
	// AcceptedAt is that of the latest Commit.
	AcceptedAt time.Time
	// Err is set if the checkpoint is damaged or has an unknown version. Then only Partition and Revision are set. The other
	// partitions are not affected.
	Err error
}

// WithPrefix returns those totals whose names begin with a prefix.
func (p *PartitionTotals) WithPrefix(prefix string) []checkpoint.Total {
	begin := sort.Search(len(p.Totals), func(i int) bool { return p.Totals[i].Name >= prefix })
	totals := p.Totals[begin:]
	return totals[:sort.Search(len(totals), func(i int) bool { return !strings.HasPrefix(totals[i].Name, prefix) })]
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

// TagID returns the document id of a tag. Without the prefix, names such as __init__ and ___ would be ids that Firestore reserves
// (https://firebase.google.com/docs/firestore/quotas).
func TagID(name string) string { return "t-" + name }

// TagName is the inverse of TagID.
func TagName(id string) (string, error) {
	name, ok := strings.CutPrefix(id, "t-")
	if !ok {
		return "", fmt.Errorf("%q is not the document id of a tag", id)
	}
	return name, nil
}

var (
	escape   = strings.NewReplacer("%", "%25", "/", "%2F")
	unescape = strings.NewReplacer("%2F", "/", "%25", "%")
)

// ContributorID returns the document id of a contributor. Firestore accepts any UTF-8 without slashes, except ".", ".." and ids
// of the form __x__. The prefix excludes these; slashes and percent signs are escaped. The longest id is within Firestore's limit
// of 1,500 bytes, because only characters of one byte are escaped.
func ContributorID(contributor string) string {
	return "c-" + escape.Replace(contributor)
}

// ContributorIDsWith returns the document ids of the contributors whose ids begin with a prefix: from first on, and before end.
// Escaping keeps prefixes, since it is done character by character.
func ContributorIDsWith(prefix string) (first, end string) {
	first = ContributorID(prefix)
	for last := []rune(first); ; last = last[:len(last)-1] {
		next := last[len(last)-1] + 1
		switch next {
		case '/': // which no id has, and no reference can
			next++
		case 0xd800: // surrogates, which are no characters
			next = 0xe000
		}
		if next <= utf8.MaxRune { // there is such a character, since all begin with "c-"
			return first, string(last[:len(last)-1]) + string(next)
		}
	}
}

// ContributorOf is the inverse of ContributorID.
func ContributorOf(id string) (string, error) {
	escaped, ok := strings.CutPrefix(id, "c-")
	if !ok {
		return "", fmt.Errorf("%q is not the document id of a contributor", id)
	}
	return unescape.Replace(escaped), nil
}

// PartitionID returns the document id of a partition's checkpoint.
func PartitionID(partition uint32) string { return strconv.FormatUint(uint64(partition), 10) }

// PartitionOf is the inverse of PartitionID.
func PartitionOf(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not the document id of a partition: %w", id, err)
	}
	return uint32(n), nil
}

// PeriodsOf returns the subcollection for the periods of a resolution.
func PeriodsOf(r checkpoint.Resolution) string {
	if r == checkpoint.Hour {
		return Hours
	}
	return Minutes
}

// periodID is the format of PeriodID. Ids sort by time.
const periodID = "2006-01-02T15:04Z"

// PeriodID returns the document id of the period that begins at begin.
func PeriodID(begin time.Time) string { return begin.UTC().Format(periodID) }

// PeriodOf is the inverse of PeriodID.
func PeriodOf(id string) (time.Time, error) {
	begin, err := time.Parse(periodID, id)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not the document id of a period: %w", id, err)
	}
	return begin.UTC(), nil
}

// Before reports whether p is before q.
func (p KeysPosition) Before(q KeysPosition) bool {
	return cmp.Or(cmp.Compare(max(p.At.Unix(), 0), max(q.At.Unix(), 0)), cmp.Compare(p.Commit, q.Commit)) < 0
}

// KeysID returns the document id of a Commit's keys. Ids sort by position.
func KeysID(p KeysPosition) string { return fmt.Sprintf("%010d-%020d", max(p.At.Unix(), 0), p.Commit) }

// ReleasedKeysID returns the document id of a Commit's keys in version 0.1: it sorts as the numbers do, and before those of KeysID.
func ReleasedKeysID(commit uint64) string { return fmt.Sprintf("%020d", commit) }

// KeysOf returns the number of the Commit in the result of KeysID.
func KeysOf(id string) (uint64, error) {
	_, number, _ := strings.Cut(id, "-")
	commit, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not the document id of a commit's keys: %w", id, err)
	}
	return commit, nil
}

// LayoutsID is the id of the one document of the Layouts.
const LayoutsID = "all"

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
		return 0, 0, fmt.Errorf("%q is not the document id of rejected entries: %w", id, err)
	}
	return partition, commit, nil
}
