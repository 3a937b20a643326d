package increment_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/increment"
)

func TestValidateName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{
		"foo": nil, "___": nil, "__init__": nil, "abcdefghijklmno": nil,
		"": increment.ErrName, "ab": increment.ErrName, "abcdefghijklmnop": increment.ErrName, "Foo": increment.ErrName,
		"fo1": increment.ErrName, "foo\n": increment.ErrName, "föö": increment.ErrName, "fo-o": increment.ErrName,
		"foo\x00": increment.ErrName,
	} {
		if got := increment.ValidateName(name); !errors.Is(got, want) {
			t.Errorf("ValidateName(%q) = %v, want %v", name, got, want)
		}
	}
}

func FuzzValidateNameEqualsThePattern(f *testing.F) {
	pattern := regexp.MustCompile(increment.NamePattern)
	for _, seed := range []string{"foo", "ab", "__init__", "foo\n", "ÿÿÿ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		// Go's $ without (?m) matches only at the end of the text.
		if got, want := increment.ValidateName(name) == nil, pattern.MatchString(name); got != want {
			t.Errorf("ValidateName(%q) accepts: %v, the pattern: %v", name, got, want)
		}
	})
}

func TestValidateValue(t *testing.T) {
	t.Parallel()
	for value, want := range map[int64]error{
		1: nil, 9: nil, 0: increment.ErrValue, 10: increment.ErrValue, -1: increment.ErrValue, 1 << 40: increment.ErrValue,
	} {
		if got := increment.ValidateValue(value); !errors.Is(got, want) {
			t.Errorf("ValidateValue(%d) = %v, want %v", value, got, want)
		}
	}
}

func TestValidateContributor(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]error{
		"a": nil, "ada/lovelace": nil, "..": nil, "__x__": nil, "Ada Lovelace": nil, "👩‍💻": nil,
		strings.Repeat("𝒳", 128): nil,
		"":                       increment.ErrContributor,
		strings.Repeat("𝒳", 129): increment.ErrContributor,
		strings.Repeat("x", 129): increment.ErrContributor,
		"a\x00b":                 increment.ErrContributor,
		"a\nb":                   increment.ErrContributor,
		"a\u0085b":               increment.ErrContributor,
		"a\xffb":                 increment.ErrContributorEncoding,
	} {
		if got := increment.ValidateContributor(id); !errors.Is(got, want) {
			t.Errorf("ValidateContributor(%q) = %v, want %v", id, got, want)
		}
	}
}

// Stored data depends on the partition: these values hold for every release.
func TestPartitionIsStable(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]uint32{"foo": 15, "ballz": 12, "__init__": 1, "ada": 0} {
		if got := increment.Partition(key, 16); got != want {
			t.Errorf("Partition(%q, 16) = %d, want %d", key, got, want)
		}
	}
}

// The OpenAPI document gives the pattern of contributor ids and the bounds of their length. Together they are the rule.
func TestContributorPatternIsTheRule(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(increment.ContributorPattern)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(
			rapid.String(), rapid.StringN(0, increment.MaxContributorLength+2, -1), rapid.StringMatching(`[a\x00\x1f \x7f\x9f\xa0é]{0,4}`),
		).Draw(t, "id")
		length := utf8.RuneCountInString(id)
		want := pattern.MatchString(id) && length >= increment.MinContributorLength && length <= increment.MaxContributorLength
		if got := increment.ValidateContributor(id) == nil; got != want {
			t.Errorf("ValidateContributor(%q) says %t, the pattern %t", id, got, want)
		}
	})
}
