package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/accrue/accrue/tools/load"
)

// measureWords counts every word of Go's own sources, and then reads the totals of its tags.
func (b *bench) measureWords(ctx context.Context) error {
	folder := b.words
	if folder == "" {
		found, err := sources(ctx)
		if err != nil {
			b.say("words and /stats are left out: %v", err)
			return ctx.Err()
		}
		folder = found
	}
	return b.with(ctx, func(s *system) error {
		b.say("words: every word of %s", folder)
		shape := load.Shape{Ingest: s.ingest.url, Connections: 16, Batch: 1000}
		words, err := load.CountWords(ctx, shape, s.query.url, filepath.Join(folder, "**", "*.go"))
		if err != nil {
			return err
		}
		b.add("words_seconds", seconds, fmt.Sprintf("%d words of %d tags in batches of %d, as fast as accepted, until `/stats` is exact",
			words.Words, words.Tags, shape.Batch), words.Elapsed.Seconds())
		return b.measureReads(ctx, s, words.Tags)
	})
}

// sources returns the folder of Go's own sources.
func sources(ctx context.Context) (string, error) {
	root := os.Getenv("GOROOT")
	if root == "" {
		output, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return "", fmt.Errorf("there is no GOROOT: %w", err)
		}
		root = strings.TrimSpace(string(output))
	}
	folder := filepath.Join(root, "src")
	if _, err := os.Stat(filepath.Join(folder, "fmt", "print.go")); err != nil { //nolint:gosec // the user's own setting
		return "", fmt.Errorf("GOROOT has no sources: %w", err)
	}
	return folder, nil
}
