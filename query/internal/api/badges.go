package api

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/content"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// The forms of a badge, and what its name looks like: that of a tag, and that of a contributor.
	badgeSVG, badgeJSON     = ".svg", ".json"
	badgePattern            = `^[a-z_]{3,15}\.(svg|json)$`
	contributorBadgePattern = `^[^\x00-\x1f\x7f-\x9f]+\.(svg|json)$`
	contributorBadgeLength  = increment.MaxContributorLength + len(badgeJSON)
	// badgeAge is how long a badge may be kept. Image proxies, such as GitHub's, ask again after it.
	badgeAge = "public, max-age=60"
	// badgePolicy is that of a badge that is opened as a page: it runs and loads nothing.
	badgePolicy = "default-src 'none'; sandbox"
	// badgeColor is that of the number.
	badgeColor = "#0b6b3a"
	// maxLabel is the number of characters after which a label is cut: ids are up to 512 bytes of any text.
	maxLabel = 40
)

// badge is a badge as shields.io reads it (https://shields.io/badges/endpoint-badge).
//
//	@Description	A badge, as shields.io reads it.
type badge struct {
	// The version of the schema.
	SchemaVersion int `json:"schemaVersion" validate:"required" enums:"1"`
	// The text on the left: the tag, or the contributor.
	Label string `json:"label" validate:"required" example:"foo"`
	// The text on the right: the total, or the number of contributions.
	Message string `json:"message" validate:"required" example:"1,234"`
	// The color of the right.
	Color string `json:"color" validate:"required" example:"#0b6b3a"`
} //	@name	Badge

// badges answers /badges/{badge} and /badges/contributors/{badge}.
type badges struct {
	views        Views
	contributors *contributors
}

// tag answers with the badge of a tag. One that was never counted has a badge too: the page that shows it may be the first
// to be counted.
func (b *badges) tag(c *gin.Context) {
	if d := readParameters(c.Request, nil); d != nil {
		d.Write(c.Writer)
		return
	}
	name, form, ok := badgeOf(c.Param("badge"))
	if !ok || increment.ValidateName(name) != nil {
		problem.New(http.StatusNotFound, "no tag can have this badge").Write(c.Writer)
		return
	}
	v := latest(c, b.views)
	if v == nil {
		return
	}
	var total int64
	if i, found := search(v.Tags(), name); found {
		total = v.Tags()[i].Total
	}
	answerBadge(c, form, name, total)
}

// contributor answers with the badge of a contributor. One who never contributed has a badge too.
func (b *badges) contributor(c *gin.Context) {
	if d := readParameters(c.Request, nil); d != nil {
		d.Write(c.Writer)
		return
	}
	id, form, ok := badgeOf(c.Param("badge"))
	if !ok || increment.ValidateContributor(id) != nil {
		problem.New(http.StatusNotFound, "no contributor can have this badge").Write(c.Writer)
		return
	}
	found, err := b.contributors.find(c.Request.Context(), id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		b.contributors.reads.refuse(c, err)
		return
	}
	answerBadge(c, form, id, found.Contributions)
}

// badgeOf splits the last part of a path into what the badge is of, unescaped, and its form.
func badgeOf(part string) (of, form string, ok bool) {
	part, err := url.PathUnescape(part)
	if err != nil {
		return "", "", false
	}
	for _, form := range []string{badgeSVG, badgeJSON} {
		if of, ok := strings.CutSuffix(part, form); ok {
			return of, form, true
		}
	}
	return "", "", false
}

func answerBadge(c *gin.Context, form, label string, n int64) {
	if runes := []rune(label); len(runes) > maxLabel {
		label = string(runes[:maxLabel-1]) + "…"
	}
	body := badge{SchemaVersion: 1, Label: label, Message: grouped(n), Color: badgeColor}
	h := c.Writer.Header()
	h.Set("Cache-Control", badgeAge)
	h.Set("X-Content-Type-Options", "nosniff")
	var encoded []byte
	if form == badgeSVG {
		h.Set("Content-Type", "image/svg+xml")
		h.Set("Content-Security-Policy", badgePolicy)
		encoded = draw(body)
	} else {
		h.Set("Content-Type", "application/json")
		encoded, _ = json.Marshal(body) // strings and numbers: no error
	}
	content.New(encoded, content.Tag(encoded)).Serve(c.Writer, c.Request)
}

// grouped returns a number with commas between groups of three digits.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// draw draws a badge. Its texts get the width that is meant for them, whatever the font of the reader.
func draw(b badge) []byte {
	left, right := width(b.Label), width(b.Message)
	label, message := escapeXML(b.Label), escapeXML(b.Message)
	const margin = 6
	whole, middle := left+right+4*margin, left+2*margin
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="20" role="img" aria-label="%[3]s: %[4]s">`+
		`<title>%[3]s: %[4]s</title><rect width="%[1]d" height="20" rx="3" fill="#444"/>`+
		`<path d="M%[2]d 0h%[5]dq3 0 3 3v14q0 3 -3 3h-%[5]dz" fill="%[6]s"/>`+
		`<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">`+
		`<text x="%[7]d" y="14" textLength="%[8]d">%[3]s</text><text x="%[9]d" y="14" textLength="%[10]d">%[4]s</text></g></svg>`,
		whole, middle, label, message, right+2*margin-3, b.Color, margin, left, middle+margin, right)
}

// width estimates the width of a text in pixels: characters from the Hangul Jamo on, most of them East Asian, are wide.
func width(text string) int {
	w := 0
	for _, r := range text {
		if w += 7; r >= 0x1100 {
			w += 5
		}
	}
	return w
}

// escapeXML escapes a text for XML, and replaces what XML cannot hold by U+FFFD.
func escapeXML(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer: no error
	return b.String()
}

// find reads a contributor with their recognitions.
func (s *contributors) find(ctx context.Context, id string) (store.Standing, error) {
	return do(ctx, s.reads, "contributor "+id, func(ctx context.Context) (store.Standing, int, error) {
		found, err := s.store.Standing(ctx, id)
		return found, 1 + len(found.Recognitions), err
	})
}
