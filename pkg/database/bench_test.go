//go:build unix

package database_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

func reportRate(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per_second")
}

// BenchmarkFsync measures the disk: it writes a page and syncs it. A transaction needs two syncs.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is removed
	page := make([]byte, os.Getpagesize())
	for i := range b.N {
		if _, err := f.WriteAt(page, int64(i%256*len(page))); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	reportRate(b)
}

// BenchmarkPublish measures concurrent publishers, which publish 16 messages of 512 bytes at a time. A consumer acknowledges them.
func BenchmarkPublish(b *testing.B) {
	for _, publishers := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) {
			messaging := brokerembedded.New(databasetest.OpenFolder(b, b.TempDir()))
			source, err := messaging.Subscribe(b.Context(), topic, subscription, time.Minute)
			if err != nil {
				b.Fatal(err)
			}
			messages := make([]broker.Message, 16)
			for i := range messages {
				messages[i].Data = make([]byte, 512)
			}
			ctx, stop := context.WithCancel(b.Context())
			var consumer sync.WaitGroup
			consumer.Go(func() {
				for ctx.Err() == nil {
					pulled, _ := source.Pull(ctx, broker.MaxPull)
					receipts := make([]string, len(pulled))
					for i, d := range pulled {
						receipts[i] = d.Receipt
					}
					if err := source.Acknowledge(ctx, receipts); err != nil && ctx.Err() == nil {
						b.Error(err)
					}
				}
			})
			b.SetParallelism(publishers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := messaging.Topic(topic).Publish(b.Context(), messages); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			stop()
			consumer.Wait()
			reportRate(b)
		})
	}
}

// BenchmarkCommit measures Commits of 60 tags and 10 contributors, in one partition or in 16 concurrently.
func BenchmarkCommit(b *testing.B) {
	for _, partitions := range []int{1, 16} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			documents := storeembedded.New(databasetest.OpenFolder(b, b.TempDir()))
			var n atomic.Uint32
			b.SetParallelism(partitions)
			b.RunParallel(func(pb *testing.PB) {
				c := store.Commit{Partition: n.Add(1)}
				for i := range 60 {
					c.Tags = append(c.Tags, checkpoint.Delta{Name: fmt.Sprintf("tag_%02d_%02d", c.Partition, i), Value: 1, Increments: 1})
				}
				for i := range 10 {
					c.Contributors = append(c.Contributors, store.Contributions{Contributor: strconv.Itoa(int(c.Partition)*10 + i), Contributions: 1})
				}
				var state store.State
				for pb.Next() {
					c.Next = state.Checkpoint.Next(time.Now(), time.Hour, nil, c.Tags)
					revision, err := documents.Commit(b.Context(), c)
					if err != nil {
						b.Error(err)
						return
					}
					c.Revision, state = revision, store.State{Checkpoint: c.Next, Revision: revision}
				}
			})
			reportRate(b)
		})
	}
}
