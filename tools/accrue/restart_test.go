//go:build unix

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
)

// TestRestartOnAGigabyte measures the start of accrue run on a file of 1 GB of messages that wait. docs/small-home.md has the
// result.
func TestRestartOnAGigabyte(t *testing.T) {
	if os.Getenv("MEASURE") == "" {
		t.Skip("a measurement of a minute: MEASURE=1")
	}
	const size, entries, partitions = 1 << 30, 1000, 16
	folder := t.TempDir()
	bytes, messages := 0, 0
	t.Run("fill", func(t *testing.T) { // closes the database at its end
		b := brokerembedded.New(databasetest.OpenFolder(t, folder))
		if _, err := b.Subscribe(t.Context(), "increments", "increments-aggregator", time.Minute); err != nil {
			t.Fatal(err)
		}
		publisher := message.NewPublisher()
		for bytes < size {
			group := make([]broker.Message, 0, 100)
			for range cap(group) {
				var m message.Builder
				partition := uint32(messages % partitions)
				for i := 0; m.Entries() < entries; i++ {
					if tag := letters("tag", i); increment.Partition(tag, partitions) == partition {
						m.AddIncrement(tag, 1, message.Key{})
					}
				}
				messages++
				group = append(group, broker.Message{Data: m.Encode(publisher, partition, uint64(messages), time.Now())})
				bytes += len(group[len(group)-1].Data)
			}
			if err := b.Topic("increments").Publish(t.Context(), group); err != nil {
				t.Fatal(err)
			}
		}
	})
	info, err := os.Stat(filepath.Join(folder, "accrue.db"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for range 3 {
		began := time.Now()
		p := startRun(t, folder, nil)
		address := p.serving(t)
		serves := time.Since(began)
		if result, err := send(t.Context(), client, address, "/increments", "", `{"name":"foo","value":1}`); err != nil || result != accepted {
			t.Fatalf("a post was answered %v, %v", result, err)
		}
		accepts := time.Since(began)
		var totals map[string]int64
		for get(t, client, address+"/stats", &totals) != nil {
			time.Sleep(time.Millisecond)
		}
		t.Logf("a file of %d MB, %d messages: serves after %v, 202 after %v, /stats after %v",
			info.Size()>>20, messages, serves.Round(time.Millisecond), accepts.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		p.kill(t)
	}
}
