package store

import (
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

// RecognitionID returns the document id of a recognition: that of the contributor, a colon, and the tier. Colons in the
// contributor's id are escaped, so that the recognitions of a contributor have a prefix of their own.
func RecognitionID(contributor string, tier int64) string {
	return RecognitionIDPrefix(contributor) + strconv.FormatInt(tier, 10)
}

// RecognitionIDPrefix returns the prefix of the document ids of a contributor's recognitions. No other ids begin with it.
func RecognitionIDPrefix(contributor string) string {
	return strings.ReplaceAll(ContributorID(contributor), ":", "%3A") + ":"
}
