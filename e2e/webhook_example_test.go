package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// verify returns nil if a request was signed with a secret, whsec_…, within the last five minutes. It is the example of
// docs/webhooks.md.
func verify(secret string, header http.Header, body []byte) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(header.Get("Webhook-Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return errors.New("the time is wrong")
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", header.Get("Webhook-Id"), seconds, body)
	for signature := range strings.FieldsSeq(header.Get("Webhook-Signature")) {
		given, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1,"))
		if err == nil && hmac.Equal(given, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("the signature is wrong")
}

// crm is a receiver of recognitions. It handles each once, by its id.
type crm struct {
	secret string

	mu       sync.Mutex
	down     bool
	handled  map[string]reached // by id
	requests int
	faults   []string
}

func (c *crm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	if c.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	if err := verify(c.secret, r.Header, body); err != nil {
		c.faults = append(c.faults, err.Error())
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var event struct {
		ID   string  `json:"id"`
		Data reached `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil || event.ID != r.Header.Get("Webhook-Id") || r.Header.Get("Content-Type") != "application/cloudevents+json" {
		c.faults = append(c.faults, fmt.Sprintf("%v: %s", err, body))
	}
	c.handled[event.ID] = event.Data // what it is worth is done here, once
	w.WriteHeader(http.StatusNoContent)
}

// listen serves the receiver at an address until stop is called.
func (c *crm) listen(t *testing.T, address string) (at string, stop func()) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return listener.Addr().String(), sync.OnceFunc(func() {
		_ = server.Close()
		<-done
	})
}

// A receiver answers 503, is gone, and comes back, while query is killed and started again. It gets every recognition, signed.
func TestAWebhookGetsEveryRecognition(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	s := newSystem(t)
	receiver := &crm{secret: secret, down: true, handled: make(map[string]reached)}
	address, stop := receiver.listen(t, "127.0.0.1:0")
	defer func() { stop() }()
	s.variables["RECOGNITION_WEBHOOKS"] = "crm=http://" + address + "/recognitions"
	s.variables["RECOGNITION_WEBHOOK_SECRETS"] = "crm=" + secret
	s.variables["RECOGNITION_TIERS"] = "1,2"
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	contribute := func(from, to int) {
		for i := from; i < to; i++ {
			mustPost(t, ingest.url+"/contributions/batch", fmt.Sprintf(`{"contributions":[{"contributor":"c%d"},{"contributor":"c%d"}]}`, i, i))
		}
	}
	contribute(0, 20)
	await(t, "requests that are answered 503", 20*time.Second, func() error {
		receiver.mu.Lock()
		defer receiver.mu.Unlock()
		if receiver.requests < 40 {
			return fmt.Errorf("%d requests", receiver.requests)
		}
		return nil
	})
	stop()
	contribute(20, 30)
	query.kill()
	query = s.start(t, "query")
	contribute(30, 40)
	receiver.mu.Lock()
	receiver.down = false
	receiver.mu.Unlock()
	_, stop = receiver.listen(t, address)
	// A lease, and the longest wait after so many failures.
	await(t, "every recognition", 90*time.Second, func() error {
		receiver.mu.Lock()
		defer receiver.mu.Unlock()
		if len(receiver.handled) < 80 {
			return fmt.Errorf("%d of 80", len(receiver.handled))
		}
		return nil
	})
	query.stop()
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	seen := make(map[reached]bool)
	for _, r := range receiver.handled {
		seen[r] = true
	}
	if len(seen) != 80 || len(receiver.handled) != 80 || len(receiver.faults) > 0 {
		t.Errorf("%d recognitions by %d ids, want 80; faults %q", len(seen), len(receiver.handled), receiver.faults)
	}
}
