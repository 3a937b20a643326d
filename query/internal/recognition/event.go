package recognition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/store"
)

// The parts that all events share (CloudEvents 1.0, binary mode, in the attributes of a message).
const (
	// eventSource does not name the instance: consumers drop duplicates by source and id, and a duplicate may come from
	// another instance.
	eventSource      = "/accrue/query"
	eventSpecVersion = "1.0"
	eventType        = "dev.accrue.contributor.recognized.v1"
	eventContentType = "application/json"

	// timeFormat is RFC 3339 in UTC, in milliseconds, the precision of recognitions.
	timeFormat = "2006-01-02T15:04:05.000Z"
)

// eventData is the data of an event.
type eventData struct {
	Contributor   string `json:"contributor"`
	Tier          int64  `json:"tier"`
	Contributions int64  `json:"contributions"`
	RecognizedAt  string `json:"recognized_at"`
}

// event returns the message of a recognition. All instances produce the same bytes at any time, since everything comes
// from the recognition, which never changes.
func event(r store.Recognition) broker.Message {
	recognizedAt := r.RecognizedAt.UTC().Format(timeFormat)
	data, _ := json.Marshal(eventData{r.Contributor, r.Tier, r.Contributions, recognizedAt}) // strings and numbers: no error
	return broker.Message{
		Data: data,
		Attributes: map[string]string{
			"ce-id":          eventID(r.Contributor, r.Tier),
			"ce-source":      eventSource,
			"ce-specversion": eventSpecVersion,
			"ce-type":        eventType,
			"ce-subject":     eventSubject(r.Contributor),
			"ce-time":        recognizedAt,
			"content-type":   eventContentType,
		},
	}
}

// eventID returns the SHA-256 of contributor and tier, in hexadecimal. A contributor's id is up to 512 bytes of any text;
// the digest is plain and of fixed length. No id contains the NUL that separates the two.
func eventID(contributor string, tier int64) string {
	digest := sha256.Sum256([]byte(contributor + "\x00" + strconv.FormatInt(tier, 10)))
	return hex.EncodeToString(digest[:])
}

// eventSubject returns the contributor's id as a CloudEvents string. Such a string contains no control characters, nor
// do ids, and no Unicode noncharacters, which are replaced by U+FFFD. The event's data has the id unchanged.
func eventSubject(contributor string) string {
	return strings.Map(func(r rune) rune {
		if r&0xfffe == 0xfffe || (r >= 0xfdd0 && r <= 0xfdef) {
			return utf8.RuneError
		}
		return r
	}, contributor)
}

// eventTime returns t with the precision of events.
func eventTime(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
