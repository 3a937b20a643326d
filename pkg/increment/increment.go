// Package increment holds the rules of what may be counted: the names of tags, the values of increments, the ids of
// contributors, and the partition that each belongs to. Every service that accepts or applies one uses these rules, so
// that what ingest answers 202 to is what the aggregator can count.
package increment

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// The bounds of an increment; the API documents and the tests read them from here.
const (
	// MinNameLength is the fewest bytes, which are characters here, that a tag's name has.
	MinNameLength = 3
	// MaxNameLength is the most bytes that a tag's name has.
	MaxNameLength = 15
	// NamePattern is the regular expression that a tag's name matches as a whole.
	NamePattern = `^[a-z_]{3,15}$`
	// MinValue is the least value of one increment.
	MinValue = 1
	// MaxValue is the greatest value of one increment.
	MaxValue = 9
	// MinContributorLength is the fewest characters that a contributor's id has.
	MinContributorLength = 1
	// MaxContributorLength bounds a contributor's id, in characters (not bytes): at most 512 bytes of UTF-8.
	MaxContributorLength = 128
	// ContributorPattern is the regular expression of any text without control characters.
	ContributorPattern = `^[^\x00-\x1f\x7f-\x9f]*$`
	// MinKeyLength is the fewest bytes, which are characters here, that an idempotency key has.
	MinKeyLength = 1
	// MaxKeyLength is the most bytes that an idempotency key has.
	MaxKeyLength = 255
	// KeyPattern is the regular expression that an idempotency key matches as a whole: visible ASCII.
	KeyPattern = `^[!-~]{1,255}$`
	// MaxPartitions bounds PARTITIONS: query reads a document of each, twice a window.
	MaxPartitions = 4096
	// MinBatch is the fewest increments that a batch carries.
	MinBatch = 1
	// MaxBatch is the most increments that one request may carry.
	MaxBatch = 1000
)

// The rules, as errors whose text tells a producer what would have been right.
var (
	ErrName        = fmt.Errorf("must be %d to %d characters from a to z and _", MinNameLength, MaxNameLength)
	ErrValue       = fmt.Errorf("must be an integer from %d to %d", MinValue, MaxValue)
	ErrContributor = fmt.Errorf("must be 1 to %d characters, without control characters", MaxContributorLength)
	ErrKey         = fmt.Errorf("must be 1 to %d visible ASCII characters, without spaces", MaxKeyLength)
	// ErrContributorEncoding is the case of an id that is not text at all. JSON cannot carry one; a message could.
	ErrContributorEncoding = errors.New("must be valid UTF-8")
)

// ValidateName returns ErrName unless name matches NamePattern as a whole.
func ValidateName(name string) error {
	if len(name) < MinNameLength || len(name) > MaxNameLength {
		return ErrName
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && c != '_' {
			return ErrName
		}
	}
	return nil
}

// ValidateValue returns ErrValue unless value is within MinValue and MaxValue.
func ValidateValue(value int64) error {
	if value < MinValue || value > MaxValue {
		return ErrValue
	}
	return nil
}

// ValidateKey returns ErrKey unless key matches KeyPattern as a whole.
func ValidateKey(key string) error {
	if key == "" || len(key) > MaxKeyLength {
		return ErrKey
	}
	for i := range len(key) {
		if key[i] < '!' || key[i] > '~' {
			return ErrKey
		}
	}
	return nil
}

// ValidateContributor returns ErrContributor or ErrContributorEncoding unless id may name a contributor. Ids are text
// from outside and are never changed: two that differ in case or normalization are two contributors.
func ValidateContributor(id string) error {
	if !utf8.ValidString(id) {
		return ErrContributorEncoding
	}
	if id == "" || len(id) > MaxContributorLength*utf8.UTFMax || utf8.RuneCountInString(id) > MaxContributorLength {
		return ErrContributor
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return ErrContributor
		}
	}
	return nil
}

// Partition returns the partition, below partitions, of a tag's name or a contributor's id. It is the same in every
// process and release: XXH64 of the bytes, modulo the number of partitions. A change of that number moves tags to
// other partitions and loses nothing (design section 4), since totals are summed over partitions.
func Partition(key string, partitions uint32) uint32 {
	return uint32(xxhash.Sum64String(key) % uint64(partitions)) //nolint:gosec // below a uint32
}
