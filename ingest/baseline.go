package ingest

import (
	"context"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/api"
	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/service/web"
)

// Baseline is the API of a Service without what it is for: it routes, decodes, validates and answers 202, and counts
// nothing. The rate of a Service against that of its baseline, in the same run, is what durability costs. It is for
// measuring alone: its 202 promises nothing.
func Baseline(log zerolog.Logger) http.Handler {
	return api.New(forgettingCounter{}, web.Base{Log: log})
}

// forgettingCounter takes everything and keeps nothing.
type forgettingCounter struct{}

func (forgettingCounter) Reserve(int) bool                            { return true }
func (forgettingCounter) Release(int)                                 {}
func (forgettingCounter) Add(context.Context, []batching.Entry) error { return nil }
