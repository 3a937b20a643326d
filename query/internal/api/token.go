package api

import (
	"encoding/base64"
	"encoding/json"

	"github.com/accrue/accrue/pkg/problem"
)

// cursor is the end of a page, as a page token holds it. It depends on no state of this process: any instance continues
// after it. Tokens are opaque to clients, and not secret.
type cursor struct {
	// List identifies the list: the resource and the parameters that its order and contents depend on.
	List string `json:"l"`
	// Value and ID are those of the last item: what the list is ordered by, if not by ID, and its name or id.
	Value int64  `json:"v,omitempty"`
	ID    string `json:"i"`
}

func (c cursor) token() string {
	encoded, _ := json.Marshal(c) // strings and numbers: no error
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// readCursor returns the cursor of a page token for a list, nil for no token, or a problem if the token is of another list
// or not a token of this API.
func readCursor(list, token string) (*cursor, *problem.Document) {
	if token == "" {
		return nil, nil
	}
	var c cursor
	encoded, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err == nil {
		err = json.Unmarshal(encoded, &c)
	}
	if err != nil || c.List != list || c.ID == "" {
		return nil, wrongParameter(problem.Fault{
			Parameter: parameterPageToken, Detail: "must be the next_page_token of a page with the same other parameters",
		})
	}
	return &c, nil
}
