package ingest

import (
	"context"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/api"
	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service/web"
)

// Baseline returns the API of a Service that counts nothing: it routes, decodes, validates and answers 202. The rate of a
// Service divided by that of its baseline, in the same run, shows what durability costs. Use it only to measure.
func Baseline(log zerolog.Logger) http.Handler {
	return HandlerOver(func(context.Context, []message.Increment) error { return nil }, log)
}

// HandlerOver returns the API of a Service over another way to count: add returns nil when all increments of a request are
// counted, and may keep them. After an error they may have been. Contributions are not passed on. Use it only to measure.
func HandlerOver(add func(context.Context, []message.Increment) error, log zerolog.Logger) http.Handler {
	return api.New(counterFunc(add), nil, web.Base{Log: log})
}

// counterFunc is a function as a counter without a limit on memory.
type counterFunc func(context.Context, []message.Increment) error

func (counterFunc) Reserve(int) bool { return true }
func (counterFunc) Release(int)      {}

func (add counterFunc) Add(ctx context.Context, entries []batching.Entry) error {
	increments := make([]message.Increment, 0, len(entries))
	for i := range entries {
		if e := &entries[i]; e.Tag != "" {
			increments = append(increments, message.Increment{Tag: e.Tag, Value: e.Value, Key: e.Key})
		}
	}
	return add(ctx, increments)
}
