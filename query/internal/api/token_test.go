package api

import "testing"

func FuzzToken(f *testing.F) {
	f.Add("tags -total fo", cursor{List: "tags -total fo", Value: -76, ID: "foo"}.token())
	f.Add("contributors id", cursor{List: "contributors id", ID: "\u2028<ada>"}.token())
	f.Add("", "")
	f.Add("tags name ", "eyJpIjoiYSJ9")
	f.Fuzz(func(t *testing.T, list, token string) {
		c, d := readCursor(list, token)
		if d != nil || c == nil {
			return
		}
		if c.List != list || c.ID == "" {
			t.Errorf("%q of %q is %+v", token, list, c)
		}
		if again, d := readCursor(list, c.token()); d != nil || *again != *c {
			t.Errorf("the token of %+v is of %+v, %v", c, again, d)
		}
		if other, d := readCursor(list+"x", token); d == nil {
			t.Errorf("%q is of another list too: %+v", token, other)
		}
	})
}
