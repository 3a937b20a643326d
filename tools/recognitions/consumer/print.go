package consumer

import (
	"fmt"
	"io"
	"time"
)

// Print returns a handler that writes a line for each recognition. Ids are quoted: they are text from outside.
func Print(w io.Writer) func(Recognition) error {
	return func(r Recognition) error {
		_, err := fmt.Fprintf(w, "recognized %q for reaching tier %d, with %d contributions, at %s\n",
			r.Contributor, r.Tier, r.Contributions, r.RecognizedAt.UTC().Format(time.RFC3339))
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
}
