package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a page in a headless Chromium. Any error that the page or Chromium reports fails the test: console output, an
// exception, a failed request, a violation of the content security policy.
type browser struct {
	t   *testing.T
	ctx context.Context
	// close closes the browser, once, and reports the errors. A test that starts a service after the browser must call it before
	// the test ends, because cleanups run in reverse order and the page reports an error when its service stops.
	close func()

	mu                    sync.Mutex
	failedRequestsAllowed bool
	tolerated             []audits.InspectorIssueCode // issues that are no errors
	errors                []string
}

// openBrowser starts Chromium and opens a URL. Without Chromium it skips the test, or fails it in CI.
func openBrowser(t *testing.T, url string, options ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("Chromium is not installed")
		}
		t.Skip("Chromium is not installed")
	}
	// Not the test's context, which ends before the browser is closed.
	allocator, release := chromedp.NewExecAllocator(context.Background(), append(append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox), options...)...) // root has no sandbox
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx}
	b.close = sync.OnceFunc(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
		cancel()
		release()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, err := range b.errors {
			t.Errorf("the browser reports %s", err)
		}
	})
	t.Cleanup(b.close)
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	call(b, audits.Enable, cdp.Empty{})
	b.show(desktop)
	b.do(chromedp.Navigate(url))
	return b
}

// listen records the errors that Chromium reports.
func (b *browser) listen(event any) {
	err := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if b.tolerates(e.Entry) {
			return
		}
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			err = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		err = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			err += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		err = "console." + e.Type.String() // the board does not use the console
		for _, argument := range e.Args {
			err += " " + string(argument.Value) + argument.Description
		}
	case *audits.EventIssueAdded:
		b.mu.Lock()
		tolerated := slices.Contains(b.tolerated, e.Issue.Code)
		b.mu.Unlock()
		if tolerated {
			return
		}
		details, _ := json.Marshal(e.Issue.Details)
		err = fmt.Sprintf("issue %s: %s", e.Issue.Code, details)
	}
	if err != "" {
		b.mu.Lock()
		b.errors = append(b.errors, err)
		b.mu.Unlock()
	}
}

// tolerates reports whether a log entry is about a request that may fail. On a busy machine the Firestore emulator may take longer
// than query waits, which answers 503; a page asks again, and its test waits for what it shows.
func (b *browser) tolerates(e *log.Entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.Source == log.EntrySourceNetwork && strings.Contains(e.Text, "503 (Service Unavailable)") ||
		b.failedRequestsAllowed && e.Source == log.EntrySourceNetwork && strings.Contains(e.Text, "net::ERR_") ||
		slices.Contains(b.tolerated, audits.InspectorIssueCodeCorsIssue) && strings.Contains(e.Text, "CORS")
}

// tolerate ignores later issues with the given code.
func (b *browser) tolerate(code audits.InspectorIssueCode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tolerated = append(b.tolerated, code)
}

// allowFailedRequests sets whether requests may fail.
func (b *browser) allowFailedRequests(allowed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failedRequestsAllowed = allowed
}

// screen is the display of a page.
type screen struct {
	width, height int64
	scale         float64
	mobile        bool
}

var (
	desktop = screen{1280, 860, 1, false}
	phone   = screen{390, 844, 2, true}
)

func (b *browser) show(s screen) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: s.width, Height: s.height, DeviceScaleFactor: s.scale, Mobile: s.mobile,
	})
}

// patience bounds one action of the browser.
const patience = 20 * time.Second

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
}

func call[P, R any](b *browser, command cdp.Command[P, R], parameters P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, parameters); err != nil {
		b.t.Fatalf("the browser: %s: %v", command.Method, err)
	}
}

// evaluate returns the value of an expression in the page, or that of its promise.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("the browser: %s: %v", expression, err)
	}
	return value
}

// await waits until an expression in the page has a value.
func (b *browser) await(expression, want string) {
	b.t.Helper()
	await(b.t, expression, patience, func() error {
		if got := evaluate[string](b, expression); got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}
