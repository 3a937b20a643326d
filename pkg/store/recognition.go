package store

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Recognition is the fact that a contributor has reached a tier. There is at most one for each contributor and tier, and it
// never changes. It contains everything that its event says.
type Recognition struct {
	Contributor string
	Tier        int64
	// Contributions is the number of contributions when the recognition was made: Tier or more.
	Contributions int64
	// RecognizedAt is when the recognition was made, by the clock of query. Stores keep microseconds.
	RecognizedAt time.Time
}

// PendingRecognition is a recognition whose event is not known to be published.
type PendingRecognition struct {
	Recognition
	// CreatedAt is when the document was created, by the store's clock.
	CreatedAt time.Time
	// Revision is that of the document. Its UpdateTime is the time of the last claim, or CreatedAt before the first.
	Revision Revision
}

// Standing is a contributor with all of its recognitions.
type Standing struct {
	Contributor
	// Recognitions are sorted by tier.
	Recognitions []Recognition
	// AsOf is the time of the read, by the store's clock.
	AsOf time.Time
}

// Order is an order in which contributors are listed. Ids are ordered by the bytes of their document ids, which is the order of
// the ids themselves, except that "/" follows "%". Contributors with equal contributions are ordered by id, in the same
// direction. There is no descending order of ids: Firestore would need another index, and its emulator refuses the query.
type Order string

// The orders. Their values are those of the parameter of the API.
const (
	ByID                      Order = "id"
	ByContributions           Order = "contributions"
	ByContributionsDescending Order = "-contributions"
)

// RecognitionFilter chooses recognitions. The zero value chooses all.
type RecognitionFilter struct {
	// Contributor, unless it is empty, is the one whose recognitions are chosen.
	Contributor string
	// Tier, unless it is 0, is the tier that they are for.
	Tier int64
	// Since, unless it is zero, is the time before which none was made.
	Since time.Time
}

// chooses reports whether a recognition is chosen.
func (f *RecognitionFilter) chooses(r *Recognition) bool {
	return (f.Contributor == "" || r.Contributor == f.Contributor) && (f.Tier == 0 || r.Tier == f.Tier) && !r.RecognizedAt.Before(f.Since)
}

// Page returns up to limit of some recognitions, in any order, that are chosen and come after one: the latest first, and those of
// one time by document id, descending. After is zero for the first page. It changes the order of all.
func (f *RecognitionFilter) Page(all []Recognition, after Recognition, limit int) []Recognition {
	later := func(a, b Recognition) int {
		return cmp.Or(b.RecognizedAt.Compare(a.RecognizedAt),
			strings.Compare(RecognitionID(b.Contributor, b.Tier), RecognitionID(a.Contributor, a.Tier)))
	}
	slices.SortFunc(all, later)
	page := slices.DeleteFunc(all, func(r Recognition) bool {
		return !f.chooses(&r) || (after.Contributor != "" && later(r, after) <= 0)
	})
	return page[:min(limit, len(page))]
}

// RecognitionID returns the document id of a recognition: that of the contributor, a colon, and the tier. Colons in the
// contributor's id are escaped, so that the recognitions of a contributor have a prefix of their own.
func RecognitionID(contributor string, tier int64) string {
	return escapedContributor(contributor) + RecognitionIDSuffix(tier)
}

// RecognitionIDSuffix returns the end of the document ids of a tier's recognitions. No other ids end with it.
func RecognitionIDSuffix(tier int64) string { return ":" + strconv.FormatInt(tier, 10) }

// RecognitionIDPrefix returns the prefix of the document ids of a contributor's recognitions. No other ids begin with it.
func RecognitionIDPrefix(contributor string) string { return escapedContributor(contributor) + ":" }

func escapedContributor(contributor string) string {
	return strings.ReplaceAll(ContributorID(contributor), ":", "%3A")
}
