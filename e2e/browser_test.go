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

// browser is one page in a headless Chromium of its own. Whatever the page or Chromium complains of is a fault that fails
// the test: an error on the console, an exception, a request that failed, a violation of the page's policy.
type browser struct {
	t   *testing.T
	ctx context.Context
	// close ends the browser, once, and reports the faults. A test that has started a service after the browser calls it:
	// services end in the opposite order, and a page whose service ends complains.
	close func()

	mu  sync.Mutex
	cut bool // requests may fail
	// tolerated are the issues that are no fault in this test.
	tolerated []audits.InspectorIssueCode
	faults    []string
}

// openBrowser starts Chromium and opens an address. Without Chromium the test is skipped; in CI it fails.
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
			t.Fatal("Chromium is not here, and in CI it must be")
		}
		t.Skip("Chromium is not here")
	}
	// Not the test's context: that ends before the browser is told to.
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
		for _, fault := range b.faults {
			t.Errorf("the browser complains: %s", fault)
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

// listen takes what Chromium tells of the page.
func (b *browser) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if b.tolerates(e.Entry) {
			return
		}
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			fault = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		fault = "console." + e.Type.String() // the board writes nothing there
		for _, argument := range e.Args {
			fault += " " + string(argument.Value) + argument.Description
		}
	case *audits.EventIssueAdded:
		b.mu.Lock()
		tolerated := slices.Contains(b.tolerated, e.Issue.Code)
		b.mu.Unlock()
		if tolerated {
			return
		}
		details, _ := json.Marshal(e.Issue.Details)
		fault = fmt.Sprintf("issue %s: %s", e.Issue.Code, details)
	}
	if fault != "" {
		b.mu.Lock()
		b.faults = append(b.faults, fault)
		b.mu.Unlock()
	}
}

// tolerates says whether an entry of the log is of a request that fails because there is nobody to answer it.
func (b *browser) tolerates(e *log.Entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cut && e.Source == log.EntrySourceNetwork && strings.Contains(e.Text, "net::ERR_") ||
		slices.Contains(b.tolerated, audits.InspectorIssueCodeCorsIssue) && strings.Contains(e.Text, "CORS")
}

// tolerate makes an issue no fault from now on.
func (b *browser) tolerate(code audits.InspectorIssueCode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tolerated = append(b.tolerated, code)
}

// expectCut says whether requests may fail from now on.
func (b *browser) expectCut(cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = cut
}

// screen is what a page is shown on.
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

// evaluate returns the value of an expression in the page.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
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
			return fmt.Errorf("it is %q, want %q", got, want)
		}
		return nil
	})
}
