package load

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/accrue/accrue/tools/cli"
)

// progress shows how far the posting has got.
type progress interface {
	// follow shows l until ctx ends.
	follow(ctx context.Context, l *load)
}

// newProgress returns a bar on a terminal, and lines at intervals elsewhere.
func newProgress(w io.Writer, interval time.Duration) progress {
	if cli.IsTerminal(w) {
		return barProgress{w}
	}
	return lineProgress{w, interval}
}

// share returns how much of the posting is done, from 0 to 1, by duration or by source.
func (l *load) share(elapsed time.Duration) float64 {
	done, _ := l.source.progress()
	if l.config.duration > 0 {
		done = max(done, elapsed.Seconds()/l.config.duration.Seconds())
	}
	return min(1, done)
}

// lineProgress prints a line at intervals.
type lineProgress struct {
	w        io.Writer
	interval time.Duration
}

func (p lineProgress) follow(ctx context.Context, l *load) {
	start, before := time.Now(), int64(0)
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for last := start; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			accepted := l.counts.Accepted.Load()
			fmt.Fprintf(p.w, "%4.0f s  %3.0f %%  %s accepted, %s/s\n", now.Sub(start).Seconds(), 100*l.share(now.Sub(start)),
				grouped(accepted), grouped(int64(float64(accepted-before)/now.Sub(last).Seconds())))
			before, last = accepted, now
		}
	}
}

// barProgress draws a bar.
type barProgress struct{ w io.Writer }

func (p barProgress) follow(ctx context.Context, l *load) {
	const parts = 1000
	start := time.Now()
	drawn := mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(40))
	bar := drawn.AddBar(parts,
		mpb.PrependDecorators(decor.Percentage(decor.WC{W: 5})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			accepted := l.counts.Accepted.Load()
			elapsed := time.Since(start)
			left := ""
			if share := l.share(elapsed); share > 0 && share < 1 {
				left = ", " + time.Duration(float64(elapsed)*(1/share-1)).Round(time.Second).String() + " left"
			}
			return fmt.Sprintf("%s accepted, %s/s, %v%s", grouped(accepted), grouped(int64(float64(accepted)/elapsed.Seconds())),
				elapsed.Round(time.Second), left)
		})))
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if l.share(time.Since(start)) == 1 {
				bar.SetCurrent(parts)
			}
			bar.Abort(false) // keeps the line; it has no effect on a full bar
			drawn.Wait()
			return
		case <-ticker.C:
			bar.SetCurrent(min(parts-1, int64(parts*l.share(time.Since(start)))))
		}
	}
}
