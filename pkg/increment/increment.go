// Package increment holds the rules of increments and contributions: names of tags, values, ids of contributors, idempotency
// keys, and the partition of each. Ingest and the aggregator share them, so that the aggregator can count everything that
// ingest accepts.
package increment

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// The bounds of increments and contributions. The OpenAPI documents take them from here.
const (
	// MinNameLength is the minimum length of a tag name in bytes; names are ASCII.
	MinNameLength = 3
	// MaxNameLength is the maximum length of a tag name in bytes.
	MaxNameLength = 15
	// NamePattern is the regular expression of tag names.
	NamePattern = `^[a-z_]{3,15}$`
	// MinValue is the minimum value of an increment.
	MinValue = 1
	// MaxValue is the maximum value of an increment.
	MaxValue = 9
	// MinContributorLength is the minimum length of a contributor id in characters.
	MinContributorLength = 1
	// MaxContributorLength is the maximum length of a contributor id in characters, which take at most 512 bytes of UTF-8.
	MaxContributorLength = 128
	// ContributorPattern is the regular expression of contributor ids, apart from their length: text without control
	// characters.
	ContributorPattern = `^[^\x00-\x1f\x7f-\x9f]*$`
	// MinKeyLength is the minimum length of an idempotency key in bytes; keys are ASCII.
	MinKeyLength = 1
	// MaxKeyLength is the maximum length of an idempotency key in bytes.
	MaxKeyLength = 255
	// KeyPattern is the regular expression of idempotency keys: visible ASCII characters.
	KeyPattern = `^[!-~]{1,255}$`
	// MaxPartitions is the maximum number of partitions: query reads a document of each, twice a window.
	MaxPartitions = 4096
	// MinBatch is the minimum number of items in a batch.
	MinBatch = 1
	// MaxBatch is the maximum number of items in a batch.
	MaxBatch = 1000
)

// The rules as errors. Their text says what would be right.
var (
	ErrName        = fmt.Errorf("must be %d to %d characters from a to z and _", MinNameLength, MaxNameLength)
	ErrValue       = fmt.Errorf("must be an integer from %d to %d", MinValue, MaxValue)
	ErrContributor = fmt.Errorf("must be 1 to %d characters, without control characters", MaxContributorLength)
	ErrKey         = fmt.Errorf("must be 1 to %d visible ASCII characters, without spaces", MaxKeyLength)
	// ErrContributorEncoding is returned for an id that is not text. JSON cannot carry one, but a message can.
	ErrContributorEncoding = errors.New("must be valid UTF-8")
)

// ValidateName returns ErrName unless name matches NamePattern.
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

// ValidateKey returns ErrKey unless key matches KeyPattern.
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

// ValidateContributor returns ErrContributor or ErrContributorEncoding unless id is a valid contributor id. Ids are never
// changed: two that differ in case or normalization are two contributors.
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
// process and release: XXH64 of the bytes, modulo the number of partitions. A change of that number moves tags to other
// partitions and loses nothing, since totals are sums over partitions.
func Partition(key string, partitions uint32) uint32 {
	return uint32(xxhash.Sum64String(key) % uint64(partitions)) //nolint:gosec // below a uint32
}
