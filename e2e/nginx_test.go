package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/chromedp"
)

// startNginx runs nginx with its defaults and the given locations in front of the given servers until the end of the test, and
// returns its URL. The upstream "accrue" sends requests to the servers in turn. Without nginx it skips the test, or fails it in CI.
func startNginx(t *testing.T, locations string, servers ...*process) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nginx")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("nginx is not installed")
		}
		t.Skip("nginx is not installed")
	}
	var upstream strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&upstream, "server %s; ", strings.TrimPrefix(server.url, "http://"))
	}
	folder := t.TempDir()
	// Another process may take the free port before nginx does. Then try another one.
	for range 5 {
		address := freeAddress(t)
		config := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1; events {}
http { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	upstream accrue { %[2]s} server { listen %[3]s; %[4]s } }`, folder, upstream.String(), address, locations)
		if err := os.WriteFile(filepath.Join(folder, "nginx.conf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		var output bytes.Buffer
		cmd := exec.Command(program, "-p", folder, "-c", filepath.Join(folder, "nginx.conf"), "-e", "stderr", "-g", userDirective())
		cmd.Stderr = &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := listens(address, ended); err != nil {
			t.Logf("nginx: %v\n%s", err, &output)
			continue
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt) // it may have exited
			<-ended                              //nolint:errcheck // ended by the signal
		})
		return "http://" + address
	}
	t.Fatal("nginx does not start")
	return ""
}

// userDirective makes the workers run as root if nginx does, so that they can use the test's folder.
func userDirective() string {
	if os.Getuid() == 0 {
		return "user root;"
	}
	return ""
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing was accepted
	return listener.Addr().String()
}

// listens waits until a process listens at address, or returns an error if it exits.
func listens(address string, ended chan error) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("ended: %w", err)
		default:
		}
		if connection, err := net.Dial("tcp", address); err == nil {
			return connection.Close()
		}
	}
	return errors.New("does not listen")
}

// A client that pages through a list gets pages of two instances in turn. In every order the list is complete, without repetitions.
func TestPagesOfTwoInstancesAreConsistent(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest := s.start(t, "ingest")
	s.start(t, "aggregator")
	queries := []*process{s.start(t, "query"), s.start(t, "query")}
	proxy := startNginx(t, `location / { proxy_pass http://accrue; }`, queries...)

	const tags = 60
	want := map[string]int64{}
	var items []string
	for i := range tags { // many are equal
		name := "tag_" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		want[name] = int64(1 + i%4)
		items = append(items, fmt.Sprintf(`{"name":%q,"value":%d,"contributor":"person %d"}`, name, want[name], i%25))
	}
	mustPost(t, ingest.url+"/increments/batch", `{"increments":[`+strings.Join(items, ",")+`]}`)
	for _, query := range queries {
		awaitStats(t, query, want, 30*time.Second)
	}
	for list, length := range map[string]int{
		"tags": tags, "tags?order_by=name": tags, "tags?order_by=-name": tags, "tags?order_by=total": tags, "tags?order_by=-total": tags,
		"tags?order_by=updated_at": tags, "tags?order_by=-updated_at": tags, "tags?order_by=-total&prefix=tag_a": 26,
		"contributors": 25, "contributors?order_by=contributions": 25, "contributors?order_by=-contributions": 25,
	} {
		var all []string
		for token, pages := "", 0; pages == 0 || token != ""; pages++ {
			address, err := url.Parse(proxy + "/" + list)
			if err != nil {
				t.Fatal(err)
			}
			parameters := address.Query()
			parameters.Set("page_size", "7")
			parameters.Set("page_token", token)
			address.RawQuery = parameters.Encode()
			body, err := get(address.String())
			if err != nil {
				t.Fatal(err)
			}
			var page struct {
				Tags         []struct{ Name string }
				Contributors []struct{ ID string }
				Next         string `json:"next_page_token"`
			}
			if err := json.Unmarshal([]byte(body), &page); err != nil {
				t.Fatal(err)
			}
			for _, tag := range page.Tags {
				all = append(all, tag.Name)
			}
			for _, contributor := range page.Contributors {
				all = append(all, contributor.ID)
			}
			token = page.Next
		}
		slices.Sort(all)
		if n := len(slices.Compact(slices.Clone(all))); len(all) != length || n != length {
			t.Errorf("%s: %d items, %d distinct, want %d", list, len(all), n, length)
		}
	}
	for _, query := range queries {
		if n := metric(t, query, `accrue_http_request_duration_seconds_count{route="/tags",status="200"}`); n < 10 {
			t.Errorf("an instance answered only %v pages", n)
		}
	}
}

// Each event of the stream passes through nginx immediately, although nginx buffers and compresses.
func TestStreamPassesNginx(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
	awaitStats(t, query, map[string]int64{"foo": 1}, 30*time.Second)
	readers := map[string]*streamReader{}
	for title, locations := range map[string]string{
		"defaults":    `location / { proxy_pass http://accrue; }`,
		"compression": `gzip on; gzip_types *; gzip_proxied any; location / { proxy_pass http://accrue; proxy_http_version 1.1; }`,
	} {
		proxy := startNginx(t, locations, query)
		transport := &http.Transport{} // which accepts gzip
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		reader := &streamReader{}
		readers[title] = reader
		go func() { ended <- reader.read(ctx, &http.Client{Transport: transport}, proxy+"/stats/stream") }()
		t.Cleanup(func() {
			stop()
			<-ended //nolint:errcheck // canceled
			transport.CloseIdleConnections()
		})
	}
	for total := int64(1); total <= 4; total++ {
		if total > 1 {
			mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
		}
		for title, reader := range readers {
			// An event takes up to two windows and a second. What a proxy buffers arrives with the heartbeat or never.
			await(t, "the event behind nginx with "+title, 8*time.Second, func() error {
				reader.mu.Lock()
				defer reader.mu.Unlock()
				if got := reader.totals["foo"]; got != total {
					return fmt.Errorf("foo is %d, want %d", got, total)
				}
				return nil
			})
		}
	}
}

// Behind a proxy with a path prefix the board with its stream and the documentation with its requests work.
func TestServesBelowAPathPrefix(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	proxy := startNginx(t, `location /counts/ { proxy_pass http://accrue/; }`, query)
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	b := openBrowser(t, proxy+"/counts/")
	b.await(rows, "foo 4")
	b.await(text("state-word"), "Live")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":9}`)
	b.await(rows, "foo 13")
	b.close()

	b = openBrowser(t, "about:blank")
	b.tolerate(audits.InspectorIssueCodeGenericIssue) // about the forms of Swagger UI
	b.do(chromedp.Navigate(proxy + "/counts/docs"))
	b.await(`document.querySelector(".info .title")?.firstChild?.textContent ?? ""`, "Accrue: query")
	b.execute("getStats")
	b.await(answered("getStats"), "200 "+`{ "foo": 13 }`)
	b.close()
}
