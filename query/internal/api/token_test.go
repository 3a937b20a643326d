package api

import (
	"testing"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store"
)

func FuzzToken(f *testing.F) {
	for _, order := range []store.Order{store.ByID, store.ByContributions, store.ByContributionsDescending} {
		f.Add(string(order), encodeToken(order, store.Contributor{ID: "ada", Contributions: 4}))
		f.Add(string(order), encodeToken(order, store.Contributor{ID: "\u2028", Contributions: -1 << 63}))
	}
	f.Add("id", "")
	f.Add("contributions", "Ag")
	f.Fuzz(func(t *testing.T, order, token string) {
		last, err := decodeToken(store.Order(order), token)
		if err != nil {
			return
		}
		if increment.ValidateContributor(last.ID) != nil {
			t.Errorf("decodeToken(%q) = %+v, whom no store can have", token, last)
		}
		again, err := decodeToken(store.Order(order), encodeToken(store.Order(order), last))
		if err != nil || again != last {
			t.Errorf("the token of %+v is of %+v, %v", last, again, err)
		}
	})
}
