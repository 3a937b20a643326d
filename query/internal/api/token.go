package api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store"
)

// errToken is the case of a page token that this API has not given out, or not for this order.
var errToken = errors.New("must be the next_page_token of a page in the same order")

// The first byte of a token: the order that it is of. Others are for other tokens to come.
const (
	tokenByID                      = 1
	tokenByContributions           = 2
	tokenByContributionsDescending = 3
)

func tokenKind(order store.Order) byte {
	switch order {
	case store.ByContributions:
		return tokenByContributions
	case store.ByContributionsDescending:
		return tokenByContributionsDescending
	default:
		return tokenByID
	}
}

// encodeToken makes the token of the page after one that ends with last: opaque to clients, and no secret. It holds the
// order, the contributions as a varint where the order is by them, and the id.
func encodeToken(order store.Order, last store.Contributor) string {
	token := []byte{tokenKind(order)}
	if order != store.ByID {
		token = binary.AppendVarint(token, last.Contributions)
	}
	return base64.RawURLEncoding.EncodeToString(append(token, last.ID...))
}

// decodeToken returns the contributor that the page before ended with, as far as the order needs it.
func decodeToken(order store.Order, encoded string) (store.Contributor, error) {
	token, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(token) == 0 || token[0] != tokenKind(order) {
		return store.Contributor{}, errToken
	}
	var last store.Contributor
	token = token[1:]
	if order != store.ByID {
		var n int
		if last.Contributions, n = binary.Varint(token); n <= 0 {
			return store.Contributor{}, errToken
		}
		token = token[n:]
	}
	last.ID = string(token)
	if increment.ValidateContributor(last.ID) != nil {
		return store.Contributor{}, errToken
	}
	return last, nil
}
