package accrue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/accrue/accrue/clients/go"
)

// A producer adds increments as they happen, handles the outcomes that are not "counted", and closes the client before it
// exits.
func Example() {
	// A stand-in for ingest. In production the URL is ingest's address.
	ingest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"accepted":2}`)
	}))
	defer ingest.Close()

	client, err := accrue.New(accrue.Config{
		URL: ingest.URL,
		Report: func(o accrue.Outcome) {
			switch {
			case o.Err == nil:
				fmt.Printf("%d counted\n", len(o.Entries))
			case errors.Is(o.Err, accrue.ErrUnknown):
				fmt.Println("counted once or not at all:", o.Entries, o.Err)
			case errors.Is(o.Err, accrue.ErrNotCounted):
				fmt.Println("not counted, may be added again:", o.Entries, o.Err)
			default:
				fmt.Println("refused:", o.Entries, o.Err)
			}
		},
		ReportRetry: func(r accrue.Retry) { fmt.Println("retrying in", r.Wait, r.Err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, e := range []accrue.Entry{
		{Name: "foo", Value: 4},
		{Name: "ballz", Value: 9, Contributor: "ada"},
		{Name: "ballz", Value: 10},
	} {
		if err := client.Add(ctx, e); err != nil { // blocks while the queue is full
			fmt.Println(err)
		}
	}
	if err := client.Close(ctx); err != nil { // posts the rest
		fmt.Println(err)
	}
	// Output:
	// add: invalid entry: value must be an integer from 1 to 9
	// 2 counted
}
