package store

import (
	"strconv"
	"strings"
	"time"
)

// Recognition is the fact that a contributor has reached a tier. There is one at most for each contributor and tier,
// and it never changes: all that its event says stands here.
type Recognition struct {
	Contributor string
	Tier        int64
	// Contributions is how many there were when the recognition was made: Tier or more.
	Contributions int64
	// RecognizedAt is the time of that, by the clock of whoever made it. Stores keep microseconds.
	RecognizedAt time.Time
}

// PendingRecognition is a recognition whose event is not known to be published.
type PendingRecognition struct {
	Recognition
	// CreatedAt is when the recognition was made, by the store's clock.
	CreatedAt time.Time
	// Revision is the document's state: its UpdateTime is the time of the last claim, or CreatedAt before the first.
	Revision Revision
}

// Standing is a contributor with all that they were recognized for.
type Standing struct {
	Contributor
	// Recognitions are sorted by tier.
	Recognitions []Recognition
	// AsOf is the time of the read, by the store's clock.
	AsOf time.Time
}

// Order is what contributors are listed by. Ids are in the order of the bytes of their document ids, which is that of
// the ids themselves but for "/", which comes after "%" and before all that follows it. Contributors with as many
// contributions as others are in the order of their ids, in the same direction. There is no falling order of ids: Firestore
// needs an index of its own for that, and its emulator refuses it.
type Order string

// The orders. Their values are those of the API's parameter.
const (
	ByID                      Order = "id"
	ByContributions           Order = "contributions"
	ByContributionsDescending Order = "-contributions"
)

// RecognitionID returns the document id of a recognition: that of the contributor, a colon, and the tier. Colons of the
// contributor's own are escaped, so that the ids of one contributor's recognitions have a beginning that no other's have.
func RecognitionID(contributor string, tier int64) string {
	return RecognitionIDPrefix(contributor) + strconv.FormatInt(tier, 10)
}

// RecognitionIDPrefix returns what the document ids of all of a contributor's recognitions begin with, and no others.
func RecognitionIDPrefix(contributor string) string {
	return strings.ReplaceAll(ContributorID(contributor), ":", "%3A") + ":"
}
