package webhook

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
)

// The vector is that of the libraries of Standard Webhooks.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	secret, err := parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	const id, at, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := sign([][]byte{secret}, id, at, []byte(body)); got != want {
		t.Errorf("sign() = %s, want %s", got, want)
	}
	if got := sign([][]byte{[]byte("the next one"), secret}, id, at, []byte(body)); !strings.HasSuffix(got, " "+want) || strings.Count(got, "v1,") != 2 {
		t.Errorf("sign() with two secrets = %s", got)
	}
	// OpenSSL computes the same.
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	command := exec.CommandContext(t.Context(), openssl, "dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", "key:"+string("0123456789abcdef0123456789abcdef"))
	command.Stdin = strings.NewReader(id + "." + at + "." + body)
	digest, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sign([][]byte{[]byte("0123456789abcdef0123456789abcdef")}, id, at, []byte(body)), "v1,"+base64.StdEncoding.EncodeToString(digest); got != want {
		t.Errorf("sign() = %s, OpenSSL says %s", got, want)
	}
}

func recognized(id string) broker.Message {
	return broker.Message{
		Data: []byte(`{"contributor":"ada \u003c3","tier":3,"contributions":4,"recognized_at":"2026-11-23T06:08:09.087Z"}`),
		Attributes: map[string]string{
			"ce-id": id, "ce-source": "/accrue/query", "ce-specversion": "1.0", "ce-type": "dev.accrue.contributor.recognized.v1",
			"ce-subject": "ada <3", "ce-time": "2026-11-23T06:08:09.087Z", "content-type": "application/json",
		},
	}
}

func TestBodyIsTheEventInStructuredMode(t *testing.T) {
	t.Parallel()
	e, err := eventOf(recognized("a1"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"specversion":"1.0","id":"a1","source":"/accrue/query","type":"dev.accrue.contributor.recognized.v1","subject":"ada <3",` +
		`"time":"2026-11-23T06:08:09.087Z","datacontenttype":"application/json",` +
		`"data":{"contributor":"ada \u003c3","tier":3,"contributions":4,"recognized_at":"2026-11-23T06:08:09.087Z"}}`
	if got := string(e.body()); got != want {
		t.Errorf("body = %s\nwant %s", got, want)
	}
	for name, change := range map[string]func(*broker.Message){
		"no id":              func(m *broker.Message) { delete(m.Attributes, "ce-id") },
		"no source":          func(m *broker.Message) { delete(m.Attributes, "ce-source") },
		"no type":            func(m *broker.Message) { delete(m.Attributes, "ce-type") },
		"another version":    func(m *broker.Message) { m.Attributes["ce-specversion"] = "0.3" },
		"another media type": func(m *broker.Message) { m.Attributes["content-type"] = "text/plain" },
		"no JSON":            func(m *broker.Message) { m.Data = []byte("{") },
		"nothing":            func(m *broker.Message) { *m = broker.Message{} },
	} {
		m := recognized("a1")
		change(&m)
		if _, err := eventOf(m); !errors.Is(err, errNoEvent) {
			t.Errorf("%s: %v, want %v", name, err, errNoEvent)
		}
	}
}

func TestAddressesThatAreNotPermitted(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]struct{ plain, secure bool }{
		"127.0.0.1:80":              {true, true},
		"[::1]:80":                  {true, true},
		"10.1.2.3:8080":             {true, true},
		"192.168.1.2:80":            {true, true},
		"[fd00::1]:80":              {true, true},
		"[::ffff:10.1.2.3]:80":      {true, true},
		"93.184.215.14:443":         {false, true},
		"[2606:2800:21f::1]:443":    {false, true},
		"[::ffff:93.184.215.14]:80": {false, true},
		"169.254.169.254:80":        {false, false}, // the metadata server
		"[fe80::1]:80":              {false, false},
		"0.0.0.0:80":                {false, false},
		"[::]:80":                   {false, false},
		"224.0.0.1:80":              {false, false},
		"255.255.255.255:80":        {false, false},
		"crm.example:80":            {false, false}, // not resolved
	} {
		if got := permit(address, true); (got == nil) != want.plain {
			t.Errorf("permit(%s) without TLS = %v", address, got)
		}
		if got := permit(address, false); (got == nil) != want.secure {
			t.Errorf("permit(%s) = %v", address, got)
		}
	}
}

// receive serves a receiver over real HTTP until the test ends.
func receive(t *testing.T, handler http.HandlerFunc) *Receiver {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &Receiver{Name: "crm", URL: server.URL + "/hooks/token", Secrets: [][]byte{[]byte("0123456789abcdef0123456789abcdef")}}
}

func (r *Receiver) postOnce(t *testing.T) error {
	t.Helper()
	through := r.transport()
	defer through.CloseIdleConnections()
	e, err := eventOf(recognized("a1"))
	if err != nil {
		t.Fatal(err)
	}
	return r.post(t.Context(), through, &e)
}

func TestOnlyAnAnswer2xxIsSuccess(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := receive(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for status, want := range map[int]bool{200: true, 202: true, 204: true, 301: false, 302: false, 307: false, 400: false, 404: false, 410: false, 429: false, 500: false, 503: false} {
		r := receive(t, func(w http.ResponseWriter, request *http.Request) {
			if _, err := io.Copy(io.Discard, request.Body); err != nil {
				t.Error(err)
			}
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		})
		if err := r.postOnce(t); (err == nil) != want {
			t.Errorf("after %d: %v", status, err)
		}
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestErrorsDoNotSayTheURL(t *testing.T) {
	t.Parallel()
	closed := receive(t, nil)
	closed.URL = "http://127.0.0.1:1/hooks/token"
	public := receive(t, nil)
	public.URL = "http://93.184.215.14/hooks/token"
	for name, r := range map[string]*Receiver{"refused": closed, "not permitted": public} {
		if err := r.postOnce(t); err == nil || strings.Contains(err.Error(), "token") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := public.postOnce(t); !errors.Is(err, errAddress) {
		t.Errorf("to a public address without TLS: %v, want %v", err, errAddress)
	}
}

func TestAnAnswerThatDoesNotEndIsCutOff(t *testing.T) {
	t.Parallel()
	r := receive(t, func(w http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body)
		for line := []byte(strings.Repeat("x", 1<<10)); request.Context().Err() == nil; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
	began := time.Now()
	if err := r.postOnce(t); err != nil {
		t.Errorf("post() = %v", err)
	}
	if took := time.Since(began); took > attemptTimeout/2 {
		t.Errorf("it took %v", took)
	}
	silent := receive(t, func(_ http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body) // the end of the connection is noticed after the body
		<-request.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	through := silent.transport()
	defer through.CloseIdleConnections()
	if err := silent.post(ctx, through, &event{ID: "a1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("post() to a silent receiver = %v", err)
	}
}
