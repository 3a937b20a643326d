package accrue

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// The bounds of an entry and of a batch, which are those of the API.
const (
	// MinNameLength is the minimum length of a tag's name, in bytes; names are ASCII.
	MinNameLength = 3
	// MaxNameLength is the maximum length of a tag's name, in bytes.
	MaxNameLength = 15
	// MinValue is the smallest value of one increment.
	MinValue = 1
	// MaxValue is the largest value of one increment.
	MaxValue = 9
	// MaxContributorLength bounds a contributor's id, in characters.
	MaxContributorLength = 128
	// MaxIDLength bounds an idempotency key, in bytes; keys are ASCII.
	MaxIDLength = 255
	// MaxBatch is the maximum number of entries in one request.
	MaxBatch = 1000
)

// ErrInvalid is returned by Add for an entry that the API would refuse. The error says which rules it breaks.
var ErrInvalid = errors.New("invalid entry")

// Entry is an increment or, when it has no name, a contribution alone.
type Entry struct {
	// Name is the tag, 3 to 15 characters from a to z and _. Value is what its total grows by, 1 to 9. A contribution
	// alone has neither.
	Name  string
	Value int64
	// Contributor is who contributed: 1 to 128 characters, none of them a control character. It is optional for an
	// increment.
	Contributor string
	// ID is an optional idempotency key: 1 to 255 visible ASCII characters, unique among all entries of all producers.
	// It is for producers that can name what they count, for example by the id of an order. An entry that is added again
	// with the same ID within the horizon, by another client or after a crash, is counted once. Entries without an ID are
	// covered by a key that the client makes for each batch, which protects its own retries.
	ID string
}

// validate returns an error that wraps ErrInvalid and lists every rule that the entry breaks, or nil.
func (e *Entry) validate() error {
	var faults []error
	check := func(ok bool, rule string) {
		if !ok {
			faults = append(faults, errors.New(rule))
		}
	}
	contribution := e.Name == "" && e.Value == 0 && e.Contributor != ""
	if !contribution {
		check(validName(e.Name), fmt.Sprintf("name must be %d to %d characters from a to z and _", MinNameLength, MaxNameLength))
		check(e.Value >= MinValue && e.Value <= MaxValue, fmt.Sprintf("value must be an integer from %d to %d", MinValue, MaxValue))
	}
	check(e.Contributor == "" || validContributor(e.Contributor),
		fmt.Sprintf("contributor must be 1 to %d characters of UTF-8, without control characters", MaxContributorLength))
	check(e.ID == "" || validID(e.ID), fmt.Sprintf("id must be 1 to %d visible ASCII characters, without spaces", MaxIDLength))
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(faults...))
}

func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return len(name) >= MinNameLength && len(name) <= MaxNameLength
}

func validContributor(id string) bool {
	if len(id) > MaxContributorLength*utf8.UTFMax || !utf8.ValidString(id) {
		return false
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return false
		}
	}
	return utf8.RuneCountInString(id) <= MaxContributorLength
}

func validID(id string) bool {
	for i := range len(id) {
		if id[i] < '!' || id[i] > '~' {
			return false
		}
	}
	return len(id) <= MaxIDLength
}
