package content

import (
	"strconv"
	"strings"
)

// acceptsGzip reports whether the lines of an Accept-Encoding header accept gzip (RFC 9110, section 12.5.3). Without a
// header, or with a malformed one, the body stays as it is.
func acceptsGzip(lines []string) bool {
	accepted := false
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			coding, parameters, _ := strings.Cut(item, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			named := coding == "gzip" || coding == "x-gzip"
			if !named && coding != "*" {
				continue
			}
			weight := 1.0
			if name, value, ok := strings.Cut(parameters, "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
				var err error
				if weight, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
					weight = 0
				}
			}
			if accepted = weight > 0; named {
				return accepted // gzip by name takes precedence over *
			}
		}
	}
	return accepted
}
