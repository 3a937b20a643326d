package ingest

import (
	"context"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/api"
	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/service/web"
)

// Baseline returns the API of a Service that counts nothing: it routes, decodes, validates and answers 202. The rate of a
// Service divided by that of its baseline, in the same run, shows what durability costs. Use it only to measure.
func Baseline(log zerolog.Logger) http.Handler {
	return api.New(forgettingCounter{}, nil, web.Base{Log: log})
}

// forgettingCounter accepts everything and keeps nothing.
type forgettingCounter struct{}

func (forgettingCounter) Reserve(int) bool                            { return true }
func (forgettingCounter) Release(int)                                 {}
func (forgettingCounter) Add(context.Context, []batching.Entry) error { return nil }
