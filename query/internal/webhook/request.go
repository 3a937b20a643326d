package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/version"
)

const (
	schemeHTTP, schemeHTTPS = "http", "https"

	// attemptTimeout bounds one request, from the connection to the end of the answer.
	attemptTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer, so that its connection can be used again.
	maxAnswer = 64 << 10
	// atOnce bounds the requests to one receiver at the same time.
	atOnce = 4
)

// event is a CloudEvent in structured mode.
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            string          `json:"time,omitempty"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

var errNoEvent = errors.New("the message is not a CloudEvent with data in JSON")

// eventOf reads a CloudEvent in binary mode, whose attributes are those of the message.
func eventOf(m broker.Message) (event, error) {
	e := event{
		SpecVersion: m.Attributes["ce-specversion"], ID: m.Attributes["ce-id"], Source: m.Attributes["ce-source"], Type: m.Attributes["ce-type"],
		Subject: m.Attributes["ce-subject"], Time: m.Attributes["ce-time"], DataContentType: m.Attributes["content-type"], Data: m.Data,
	}
	if e.SpecVersion != "1.0" || e.ID == "" || e.Source == "" || e.Type == "" || e.DataContentType != "application/json" || !json.Valid(m.Data) {
		return event{}, errNoEvent
	}
	return e, nil
}

// body returns the body of requests.
func (e *event) body() []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(e) // strings and valid JSON: no error
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// sign returns the header webhook-signature of Standard Webhooks: the HMAC-SHA256 of id, time and body with each secret.
func sign(secrets [][]byte, id, timestamp string, body []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// post posts an event once. It returns nil if the receiver answered that it has it, 200 to 299. Errors have neither the URL nor what
// the receiver said, which may be secret.
func (r *Receiver) post(ctx context.Context, through http.RoundTripper, e *event) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	body := e.body()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is invalid")
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	for name, value := range map[string]string{
		"Content-Type": "application/cloudevents+json", "User-Agent": "Accrue/" + version.Current().Version,
		"Webhook-Id": e.ID, "Webhook-Timestamp": timestamp, "Webhook-Signature": sign(r.Secrets, e.ID, timestamp, body),
	} {
		request.Header.Set(name, value)
	}
	// A redirect is not followed: it could lead anywhere.
	client := &http.Client{Transport: through, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err
		}
		return fmt.Errorf("post: %w", err)
	}
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	_ = response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("post: the receiver answers %d", response.StatusCode)
	}
	return nil
}

// transport returns the connections to a receiver, which no other uses. It uses no proxy.
func (r *Receiver) transport() *http.Transport {
	plain := strings.HasPrefix(r.URL, schemeHTTP+":")
	dialer := &net.Dialer{Timeout: attemptTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		return permit(address, plain)
	}}
	return &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxConnsPerHost: atOnce, MaxIdleConnsPerHost: atOnce,
		IdleConnTimeout: time.Minute, TLSHandshakeTimeout: attemptTimeout, MaxResponseHeaderBytes: maxAnswer, DisableCompression: true,
	}
}

var errAddress = errors.New("the address is not permitted")

// permit returns an error unless a connection may be made to an address, host:port, that a name was resolved to. Without TLS that
// is the machine itself or its own network: nothing else is to read events, and whoever rules a name could point it at what
// listens only there. With TLS the certificate proves the name. No receiver is at an address that is link-local, as the metadata
// servers of clouds are.
func permit(address string, plain bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	ip := at.Addr().Unmap()
	if !ip.IsGlobalUnicast() && !ip.IsLoopback() {
		return errAddress
	}
	if plain && !ip.IsLoopback() && !ip.IsPrivate() {
		return fmt.Errorf("%w without TLS", errAddress)
	}
	return nil
}
