package recognition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/store"
)

// What is the same in every event (CloudEvents 1.0, binary mode, in the attributes of a message).
const (
	// eventSource does not name the instance: consumers drop second copies by source and id, and the second copy may
	// well come from another one.
	eventSource      = "/accrue/query"
	eventSpecVersion = "1.0"
	eventType        = "dev.accrue.contributor.recognized.v1"
	eventContentType = "application/json"

	// timeFormat is RFC 3339 in UTC, to the millisecond, as recognitions are timed.
	timeFormat = "2006-01-02T15:04:05.000Z"
)

// eventData is the data of an event, its fields in their order.
type eventData struct {
	Contributor   string `json:"contributor"`
	Tier          int64  `json:"tier"`
	Contributions int64  `json:"contributions"`
	RecognizedAt  string `json:"recognized_at"`
}

// event makes the message of a recognition. Every copy is the same, to the byte, whoever makes it and whenever: all of it
// comes from the recognition, which never changes.
func event(r store.Recognition) (broker.Message, error) {
	recognizedAt := r.RecognizedAt.UTC().Format(timeFormat)
	data, err := json.Marshal(eventData{r.Contributor, r.Tier, r.Contributions, recognizedAt})
	if err != nil {
		return broker.Message{}, fmt.Errorf("encode event: %w", err)
	}
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
	}, nil
}

// eventID is made of contributor and tier alone: a SHA-256 in hexadecimal. A contributor's id is up to 512 bytes of any
// text; its digest is plain, and of one length. No id holds the NUL that parts the two.
func eventID(contributor string, tier int64) string {
	digest := sha256.Sum256([]byte(contributor + "\x00" + strconv.FormatInt(tier, 10)))
	return hex.EncodeToString(digest[:])
}

// eventSubject is the contributor's id as a CloudEvents string, which may hold any character but controls, which ids
// have none of, and those that Unicode will never assign: U+FFFD stands for these here. The data has the id as it is.
func eventSubject(contributor string) string {
	return strings.Map(func(r rune) rune {
		if r&0xfffe == 0xfffe || (r >= 0xfdd0 && r <= 0xfdef) {
			return utf8.RuneError
		}
		return r
	}, contributor)
}

// eventTime is a moment as precisely as events tell it.
func eventTime(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
