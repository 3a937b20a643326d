package recognition

import (
	"errors"
	"fmt"
	"slices"
)

// MaxTiers bounds the number of tiers: each costs a query a second.
const MaxTiers = 20

// ErrTiers is returned by ValidateTiers. Its text states the rule.
var ErrTiers = errors.New("positive integers in ascending order, at most " + fmt.Sprint(MaxTiers) + ", separated by commas")

// ValidateTiers returns ErrTiers unless tiers follow its rule and there is at least one.
func ValidateTiers(tiers []int64) error {
	if len(tiers) == 0 || len(tiers) > MaxTiers || tiers[0] < 1 {
		return ErrTiers
	}
	for i := 1; i < len(tiers); i++ {
		if tiers[i] <= tiers[i-1] {
			return ErrTiers
		}
	}
	return nil
}

// step leads from a recognized tier to the next one.
type step struct{ from, to int64 }

// steps returns the steps to tiers from all recognized tiers that contributors may have, the lowest first: from 0, from
// each tier, and from earlier, the tiers of earlier settings.
func steps(tiers, earlier []int64) []step {
	from := slices.Concat([]int64{0}, tiers, earlier)
	slices.Sort(from)
	var all []step
	for _, recognized := range slices.Compact(from) {
		if i, found := slices.BinarySearch(tiers, recognized); found && i+1 < len(tiers) {
			all = append(all, step{recognized, tiers[i+1]})
		} else if !found && i < len(tiers) {
			all = append(all, step{recognized, tiers[i]})
		}
	}
	return all
}
