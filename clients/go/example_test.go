package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/accrue/accrue/clients/go"
)

// A producer adds increments as they happen, is told of what is refused or unknown, and closes the client before it ends.
func Example() {
	// Stands for ingest: in production the URL is its address.
	ingest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	}))
	defer ingest.Close()

	c, err := client.New(client.Config{
		URL: ingest.URL,
		Report: func(o client.Outcome) {
			var refused *client.RefusedError
			switch {
			case o.Err == nil:
				fmt.Printf("%d counted\n", len(o.Entries))
			case errors.As(o.Err, &refused):
				fmt.Println("not counted:", o.Entries, refused)
			case errors.Is(o.Err, client.ErrUnknown):
				fmt.Println("counted once, or not at all:", o.Entries)
			default:
				fmt.Println("not counted, add them again:", o.Entries)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, e := range []client.Entry{
		{Name: "foo", Value: 4},
		{Name: "ballz", Value: 9, Contributor: "ada"},
		{Name: "ballz", Value: 10},
	} {
		if err := c.Add(ctx, e); err != nil { // waits while the queue is full
			fmt.Println(err)
		}
	}
	if err := c.Close(ctx); err != nil { // posts what waits
		fmt.Println(err)
	}
	// Output:
	// add: value: must be an integer from 1 to 9
	// 2 counted
}
