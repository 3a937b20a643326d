package local

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database"
)

// What waits for a receiver is kept in the folder, and posted by the next process; that of a receiver that is removed is removed.
func TestWebhooksSurviveARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	ids := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		ids <- r.Header.Get("Webhook-Id")
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	settings := func(address string) map[string]string {
		return map[string]string{
			"WINDOW": "100ms", "REFRESH": "20ms", "RECOGNITION_TIERS": "1", "RECOGNITION_WEBHOOKS": "crm=" + address,
			"RECOGNITION_WEBHOOK_SECRETS": "crm=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		}
	}
	start := func(variables map[string]string) (stdout *lines, end func()) {
		ctx, stop := context.WithCancel(t.Context())
		stdout = &lines{written: make(chan struct{}, 1)}
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, variables, "127.0.0.1:0", 0, folder, stdout, io.Discard) }()
		return stdout, func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("run() = %v", err)
			}
		}
	}
	stdout, end := start(settings("http://127.0.0.1:1/")) // nothing is there
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, stdout.await(t, `post +(http://\S+)/increments\n`)[1]+"/contributions",
		strings.NewReader(`{"contributor":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil || response.StatusCode != http.StatusAccepted {
		t.Fatalf("a contribution was answered %v, %v", response, err)
	}
	_ = response.Body.Close()
	stdout.await(t, `recognized "ada"`)
	end()
	_, end = start(settings(receiver.URL))
	select {
	case <-ids:
	case <-time.After(20 * time.Second):
		t.Error("the recognition was not posted")
	}
	end()
	if len(ids) > 0 {
		t.Errorf("it was posted %d times more", len(ids))
	}
	stdout, end = start(map[string]string{"WINDOW": "100ms"})
	stdout.await(t, "Accrue is running")
	end()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // read only
	if waiting, err := brokerembedded.New(d).Waiting(t.Context()); err != nil || strings.Contains(fmt.Sprint(waiting), "webhook") {
		t.Errorf("waiting: %v, %v", waiting, err)
	}
}
