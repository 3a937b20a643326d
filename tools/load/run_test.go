package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/tools/cli"
)

// runWith runs a command line against a system, in a bubble.
func runWith(ctx context.Context, t *testing.T, f *fakeSystem, arguments ...string) (*report, error) {
	t.Helper()
	// Few tags, since the system writes them all for every look.
	c, err := parse(append([]string{"--tags", "20", "--connections", "4"}, arguments...)...)
	if err != nil {
		t.Fatal(err)
	}
	return run(ctx, c, f.services(), silent{})
}

func TestRun(t *testing.T) {
	t.Parallel()
	third := func(times int64) func(int, string) int64 {
		return func(n int, _ string) int64 {
			if n == 3 {
				return times
			}
			return 1
		}
	}
	unsure := func(counted bool) func(int) (int, string, bool) {
		return func(n int) (int, string, bool) {
			if n == 3 {
				return http.StatusServiceUnavailable, "Whether this is counted is not known.", counted
			}
			return 0, "", false
		}
	}
	for name, tc := range map[string]struct {
		arguments string
		change    func(*fakeSystem)
		ok        bool
		accepted  int64
		unknown   int64
		differ    int
		fault     string
	}{
		"exact":                 {"--count 100 --probe 0", nil, true, 100, 0, 0, ""},
		"in batches":            {"--count 1005 --batch 100 --connections 3 --probe 0", nil, true, 1005, 0, 0, ""},
		"with contributors":     {"--count 50 --batch 10 --contributors 3 --probe 0", nil, true, 50, 0, 0, ""},
		"at a rate":             {"--count 100 --rate 10 --probe 0", nil, true, 100, 0, 0, ""},
		"one increment lost":    {"--count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.times = third(0) }, false, 100, 0, 1, ""},
		"one increment doubled": {"--count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.times = third(2) }, false, 100, 0, 1, ""},
		"counted as another": {"--count 100 --connections 1 --probe 0", func(f *fakeSystem) {
			f.times = func(int, string) int64 { f.totals["stranger"]++; return 1 }
		}, false, 100, 0, 1, ""},
		"by the client": {"--client --count 1005 --batch 100 --contributors 3 --probe 0", nil, true, 1005, 0, 0, ""},
		"by the client, and one increment is lost": {"--client --count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.times = third(0) }, false, 100, 0, 1, ""},
		"by the client, unknown and counted":       {"--client --count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.answer = unsure(true) }, true, 100, 0, 0, ""},
		"by the client, unknown and not counted":   {"--client --count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.answer = unsure(false) }, true, 100, 0, 0, ""},
		"by the client, refused": {"--client --count 100 --connections 1 --probe 0", func(f *fakeSystem) {
			f.answer = func(n int) (int, string, bool) {
				if n == 3 {
					return http.StatusUnprocessableEntity, "must be 1 to 9", false
				}
				return 0, "", false
			}
		}, false, 99, 0, 0, "refused: 422"},
		"unknown and counted":     {"--count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.answer = unsure(true) }, true, 99, 1, 0, ""},
		"unknown and not counted": {"--count 100 --connections 1 --probe 0", func(f *fakeSystem) { f.answer = unsure(false) }, true, 99, 1, 0, ""},
		"full at times": {"--count 100 --batch 10 --connections 2 --probe 0", func(f *fakeSystem) {
			f.answer = func(n int) (int, string, bool) {
				if n%2 == 1 {
					return http.StatusServiceUnavailable, "Nothing was counted.", false
				}
				return 0, "", false
			}
		}, true, 100, 0, 0, ""},
		"always full": {"--count 100 --batch 10 --connections 2 --probe 0", func(f *fakeSystem) {
			f.answer = func(int) (int, string, bool) { return http.StatusServiceUnavailable, "Nothing was counted.", false }
		}, false, 0, 0, 0, "nothing was accepted"},
		"full from some time on": {"--count 100 --batch 10 --connections 2 --probe 0", func(f *fakeSystem) {
			f.answer = func(n int) (int, string, bool) {
				if n > 4 {
					return http.StatusServiceUnavailable, "Nothing was counted.", false
				}
				return 0, "", false
			}
		}, false, 40, 0, 0, "60 increments were tried"},
		"full when the time is over": {"--duration 5s --connections 1 --probe 0", func(f *fakeSystem) {
			f.answer = func(n int) (int, string, bool) {
				if n > 4 {
					return http.StatusServiceUnavailable, "Nothing was counted.", false
				}
				return 0, "", false
			}
		}, true, 4, 0, 0, ""},
		"refused": {"--count 100 --connections 1 --probe 0", func(f *fakeSystem) {
			f.answer = func(n int) (int, string, bool) {
				if n == 3 {
					return http.StatusUnprocessableEntity, "must be 1 to 9", false
				}
				return 0, "", false
			}
		}, false, 2, 0, 0, "must be 1 to 9"},
		"totals of before do not count": {"--count 100 --tags 5 --probe 0", func(f *fakeSystem) {
			l := newLedger()
			newRandomSource(l, 5, 1)
			for name := range l.tallies {
				f.totals[name] = 1000
			}
			f.totals["other"] = 7
		}, true, 100, 0, 0, ""},
		"totals without an ETag": {"--count 100 --probe 0", func(f *fakeSystem) { f.noETag = true }, true, 100, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFakeSystem()
				if tc.change != nil {
					tc.change(f)
				}
				start := time.Now()
				r, err := runWith(t.Context(), t, f, strings.Fields(tc.arguments)...)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); slices.ContainsFunc(r.Differences, difference.over) && took > 30*time.Second {
					t.Errorf("took %v to find that too much was counted", took)
				}
				if r.ok() != tc.ok || r.Accepted != tc.accepted || r.Unknown != tc.unknown || len(r.Differences) != tc.differ {
					t.Errorf("report %+v, want ok: %v, %d accepted, %d unknown, %d differences", r, tc.ok, tc.accepted, tc.unknown, tc.differ)
				}
				if !strings.Contains(r.Fault, tc.fault) || (r.Fault == "") != (tc.fault == "") {
					t.Errorf("fault %q, want %q", r.Fault, tc.fault)
				}
				if r.Exact && (r.ExactSeconds < r.PostingSeconds || r.ExactSeconds > r.PostingSeconds+1.1) {
					t.Errorf("exact after %v s, posted after %v s, and the window is 1 s", r.ExactSeconds, r.PostingSeconds)
				}
				if f.unchanged == 0 && !f.noETag {
					t.Errorf("%d reads, none of them answered 304", f.reads)
				}
			})
		})
	}
}

// What is counted twice may come late: totals that are exact for a moment are not enough.
func TestRunWaitsForLateTotals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSystem()
		f.times = func(n int, name string) int64 {
			if n == 10 {
				time.AfterFunc(2*time.Second, func() {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.totals[name]++
				})
			}
			return 1
		}
		r, err := runWith(t.Context(), t, f, "--count", "10", "--probe", "0")
		if err != nil || r.Exact || len(r.Differences) != 1 {
			t.Errorf("report %+v, %v, want one difference", r, err)
		}
	})
}

func TestRunWaitsWhileTotalsChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSystem()
		f.window, f.slow = 50*time.Second, 1
		r, err := runWith(t.Context(), t, f, "--count", "100", "--tags", "5", "--probe", "0", "--wait", "60s", "--poll", "500ms")
		if err != nil || !r.ok() {
			t.Errorf("report %+v, %v of a system that takes minutes", r, err)
		}
		f.window = 70 * time.Second
		r, err = runWith(t.Context(), t, f, "--count", "100", "--tags", "5", "--probe", "0", "--wait", "60s", "--poll", "500ms")
		if err != nil || r.Exact {
			t.Errorf("report %+v, %v of a system that stands still for longer than it may", r, err)
		}
	})
}

func TestRunMeasuresFreshness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSystem()
		for range 2 { // the second finds the tags of the first
			r, err := runWith(t.Context(), t, f, "--duration", "20s", "--rate", "100")
			if err != nil || !r.ok() {
				t.Fatalf("report %+v, %v", r, err)
			}
			// The totals become visible once a second: what was accepted waits for between nothing and that.
			if got := r.Freshness; got.Samples < 350 || got.P50 < 440 || got.P50 > 560 || got.P99 < 900 || got.Max > 1050 {
				t.Errorf("freshness %+v of totals that are visible once a second", got)
			}
			if got := r.Latency; got.P50 < 1 || got.Max > 3 {
				t.Errorf("latency %+v of posts that take 1 ms", got)
			}
		}
	})
}

func TestUnknownProbeDoesNotDistortFreshness(t *testing.T) {
	t.Parallel()
	for name, counted := range map[string]bool{"counted": true, "not counted": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFakeSystem()
				f.answer = func(n int) (int, string, bool) {
					if n%50 == 25 {
						return http.StatusInternalServerError, "", counted
					}
					return 0, "", false
				}
				// Nearly all that is posted are probes.
				r, err := runWith(t.Context(), t, f, "--duration", "20s", "--rate", "0.2")
				if err != nil || !r.ok() || r.Unknown < 3 {
					t.Fatalf("report %+v, %v", r, err)
				}
				if got := r.Freshness; got.Samples < 250 || got.P50 < 430 || got.P50 > 570 || got.Max > 1050 {
					t.Errorf("freshness %+v of totals that are visible once a second", got)
				}
			})
		})
	}
}

func TestRunRefusesTotalsThatKeepChanging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSystem()
		f.window = 0
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(func() {
			for range 60 {
				f.mu.Lock()
				f.totals["other"]++
				f.mu.Unlock()
				time.Sleep(time.Second)
			}
		})
		if r, err := runWith(t.Context(), t, f, "--count", "1"); !errors.Is(err, errNotSettled) {
			t.Errorf("run() = %+v, %v, want %v", r, err, errNotSettled)
		}
		if f.posts > 0 {
			t.Errorf("%d posts before the totals were at rest", f.posts)
		}
	})
}

func TestInterruptedRunStillVerifies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSystem()
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, interrupt)
		r, err := runWith(ctx, t, f, "--duration", "1h", "--rate", "50")
		if err != nil || !r.ok() || r.Accepted < 100 || r.PostingSeconds > 5.1 {
			t.Errorf("report %+v, %v", r, err)
		}
	})
}

// The command as a whole, over a network.
func TestCommand(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("the cat and the dog_ \n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	quick := []string{"--settle", "20ms", "--hold", "50ms", "--wait", "300ms", "--poll", "5ms", "--probe", "5ms", "--progress", "50ms", "--connections", "4"}
	lose := func(n int, name string) int64 {
		if name == "cat" && n > 100 {
			return 0
		}
		return 1
	}
	for name, tc := range map[string]struct {
		arguments []string
		times     func(int, string) int64
		code      int
		want      string // a pattern
	}{
		"random":             {[]string{"--count", "500"}, nil, 0, `(?s)^accepted   5\d\d increments .* tags in .* requests, \d+ probes of freshness among them\n.*rate .*latency    p50 .*freshness  p50 .*exact .*\nEXACT\n$`},
		"words":              {[]string{"--batch", "100", "--words", text}, nil, 0, `EXACT\n$`},
		"words lost":         {[]string{"--batch", "100", "--words", text}, lose, 1, `cat: counted \d+, accepted 500 \(-\d+\)\nDIFFERENT: 1 of`},
		"JSON":               {[]string{"--count", "500", "--json"}, nil, 0, `"exact": true`},
		"no such flag":       {[]string{"--foo"}, nil, 2, `^$`},
		"no such file":       {[]string{"--words", "missing"}, nil, 1, `^$`},
		"no files":           {[]string{"--words"}, nil, 2, `^$`},
		"help":               {[]string{"--help"}, nil, 0, `Examples:`},
		"connection refused": {[]string{"--query", "http://127.0.0.1:1"}, nil, 1, `^$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeSystem()
			f.window, f.times = 20*time.Millisecond, tc.times
			system := httptest.NewServer(f)
			defer system.Close()
			stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close() //nolint:errcheck // the test is over
			var stdout bytes.Buffer
			arguments := append([]string{"--ingest", system.URL, "--query", system.URL}, quick...)
			code := cli.Execute(t.Context(), Command(nil), append(arguments, tc.arguments...), &stdout, stderr)
			if code != tc.code || !regexp.MustCompile(tc.want).MatchString(stdout.String()) {
				said, _ := os.ReadFile(stderr.Name())
				t.Errorf("exit code %d, want %d; output, want %s:\n%s\n%s", code, tc.code, tc.want, stdout.String(), said)
			}
			if name == "JSON" && !json.Valid(stdout.Bytes()) {
				t.Errorf("no JSON: %s", stdout.String())
			}
		})
	}
}

// A run for a measurement ends with its context, where others verify what they have posted.
func TestAbandonedRunEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, abandon := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, err := parse("--tags", "20", "--connections", "4", "--rate", "100", "--duration", "1m")
			if err != nil {
				t.Fatal(err)
			}
			c.abandon = abandon
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			_, err = run(ctx, c, newFakeSystem().services(), silent{})
			took := time.Since(start)
			if abandon && (!errors.Is(err, context.DeadlineExceeded) || took > 11*time.Second) {
				t.Errorf("abandoned after 10 s: %v after %v", err, took)
			}
			if !abandon && (err != nil || took < 12*time.Second) {
				t.Errorf("not abandoned: %v after %v", err, took)
			}
		})
	}
}

func TestCommandLineErrors(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{
		"--batch 0":             "--batch",
		"--batch 1001":          "--batch",
		"--connections 0":       "--connections",
		"--tags 0":              "--tags",
		"--rate -1":             "--rate",
		"--duration -1s":        "--duration",
		"--contributors -1":     "--contributors",
		"--ingest localhost:80": "--ingest",
		"--query nowhere":       "--query",
		"--poll 0":              "--poll",
		"a.txt":                 "--words",
		"--batch 0 --tags 0":    "--tags",
		"--duration soon":       "duration",
	} {
		if _, err := parse(strings.Fields(arguments)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%s) = %v, want an error with %q", arguments, err, want)
		}
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 6958775: "6,958,775", 100000: "100,000"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
}
