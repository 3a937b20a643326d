package cost

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/tools/cli"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the tables of docs/scaling.md anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The expected costs are calculated by hand from the price list.
func TestCostEqualsAManualCalculation(t *testing.T) {
	t.Parallel()
	// 1,000 increments/s, each a request, for a million seconds; every window changes all of 10 tags, which are in 4*(1-(3/4)^10) = 3.7747 of 4 partitions.
	l := load{
		rate: 1000, batch: 1, tags: 10, nameBytes: 8, window: time.Second, refresh: time.Second, partitions: 4,
		ingests: 1, queries: 2, tiers: 1, byRequests: true, publishLogs: true,
	}
	vary := func(change func(*load)) load {
		changed := l
		change(&changed)
		return changed
	}
	for name, tc := range map[string]struct {
		load load
		of   func(bill) float64
		want float64
	}{
		// A billion requests of $0.40 a million, and a million seconds of a vCPU and half a GiB that is never without one.
		"ingest by requests":  {l, func(b bill) float64 { return b.ingest }, 400 + 24 + 1.25},
		"ingest by instances": {vary(func(l *load) { l.byRequests = false }), func(b bill) float64 { return b.ingest }, 18 + 1},
		"requests in batches": {vary(func(l *load) { l.batch = 1000 }), func(b bill) float64 { return b.ingest }, 0.4 + (24+1.25)*(1-math.Exp(-0.1))},
		// 250 bytes a request.
		"answers": {l, func(b bill) float64 { return b.answers }, 250e9 / gib * 0.12},
		// And 20 bytes for each of 10 tags, twice a second.
		"answers of /stats": {vary(func(l *load) { l.reads = 2 }), func(b bill) float64 { return b.answers }, (250e9 + 2e6*200) / gib * 0.12},
		// A publish begins 2.5 ms after the one before, and e^-2.5 ms later on average, when a request comes: 387.28 a second of 2.582 increments of
		// 14 bytes, of 2.382 tags, in 4*(1-(3/4)^2.382) = 1.984 messages of 33 and 36 bytes. That is 173.0, which counts as 1,000; and 80 pulls a second,
		// which count as 1,000 each.
		"Pub/Sub": {l, func(b bill) float64 { return b.pubsub }, 1e6 * (387.28 + 80) * 1000 / tib * 40},
		// 13.7747 documents a second.
		"writes":                    {l, func(b bill) float64 { return b.writes }, 13.7747e6 / 1e5 * 0.09},
		"writes of a multi-region":  {vary(func(l *load) { l.multiRegion = true }), func(b bill) float64 { return b.writes }, 13.7747e6 / 1e5 * 0.18},
		"writes of a longer window": {vary(func(l *load) { l.window = 10 * time.Second }), func(b bill) float64 { return b.writes }, 1.37747e6 / 1e5 * 0.09},
		// The checkpoints of each second, and once in 10 s and a window all documents and checkpoints.
		"writes of TAG_DOCUMENTS=9s":       {vary(func(l *load) { l.tagDocuments = 9 * time.Second }), func(b bill) float64 { return b.writes }, (3.7747e6 + 1.37747e6) / 1e5 * 0.09},
		"writes of TAG_DOCUMENTS=off":      {vary(func(l *load) { l.tagDocuments = never }), func(b bill) float64 { return b.writes }, 3.7747e6 / 1e5 * 0.09},
		"writes of one for each increment": {vary(func(l *load) { l.writeEach = true }), func(b bill) float64 { return b.writes }, 900},
		// Two queries, each with four checkpoints and a question a second.
		"reads":             {l, func(b bill) float64 { return b.reads }, 10e6 / 1e5 * 0.03},
		"reads of 20 tiers": {vary(func(l *load) { l.tiers = 20 }), func(b bill) float64 { return b.reads }, 48e6 / 1e5 * 0.03},
		// 173.0 bytes, 387.28 times a second.
		"the archive": {vary(func(l *load) { l.archive = true }), func(b bill) float64 { return b.pubsub - estimate(l, billion, listPrices()).pubsub }, 387.28e6 * 173.05 / tib * 50},
		// An aggregator of a vCPU and a GiB, and two queries of a vCPU and half a GiB.
		"what always runs": {l, func(b bill) float64 { return b.workers }, 11.244 + 1.235 + 2*(18+1)},
		// 4 lines of 400 bytes a second, and a line of 800 for each request.
		"logs":         {l, func(b bill) float64 { return b.logs }, 1e6 * 4 * 400 / gib * 0.5},
		"request logs": {vary(func(l *load) { l.requestLogs, l.publishLogs = true, false }), func(b bill) float64 { return b.logs }, 800e9 / gib * 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tc.of(estimate(tc.load, billion, listPrices()))
			if math.Abs(got-tc.want) > 0.001*tc.want {
				t.Errorf("got $%.4f, want $%.4f", got, tc.want)
			}
		})
	}
}

func TestLargeCommitsAreSplit(t *testing.T) {
	t.Parallel()
	l := usual()
	l.rate, l.tags, l.partitions = 3000, 1500, 1 // a window changes 1,297 tags, and each half of it 948: 1/e are not drawn
	got := estimate(l, l.rate, listPrices()).writes
	if want := 2 * (1500*(1-1/math.E) + 1) / 1e5 * 0.09; math.Abs(got-want) > 0.001*want {
		t.Errorf("writes of a second = $%.6f, want $%.6f", got, want)
	}
}

func TestEachParameterChangesTheCostAsDocumented(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := usual()
		l.rate = rapid.Float64Range(1, 1e6).Draw(t, "rate")
		l.batch = rapid.Float64Range(1, 500).Draw(t, "batch")
		l.tags = rapid.Float64Range(1, 1e6).Draw(t, "tags")
		l.contributors = rapid.SampledFrom([]float64{0, 1000, 1e6}).Draw(t, "contributors")
		l.window = time.Duration(rapid.IntRange(1, 10).Draw(t, "window")) * time.Second
		l.ingests = float64(rapid.IntRange(1, 100).Draw(t, "ingests"))
		l.byRequests = rapid.Bool().Draw(t, "by requests")
		p := listPrices()
		base := estimate(l, billion, p)
		for name, part := range map[string]float64{
			"ingest": base.ingest, "Pub/Sub": base.pubsub, "writes": base.writes, "reads": base.reads, "workers": base.workers,
		} {
			if part <= 0 || math.IsInf(part, 0) || math.IsNaN(part) {
				t.Fatalf("%s = %v", name, part)
			}
		}
		compare := func(name string, change func(*load), of func(bill) float64) {
			t.Helper()
			changed := l
			change(&changed)
			if before, after := of(base), of(estimate(changed, billion, p)); after > before*(1+1e-9) {
				t.Errorf("%s costs $%v, without it $%v", name, after, before)
			}
		}
		total := func(b bill) float64 { return b.total() }
		writes := func(b bill) float64 { return b.writes }
		compare("a larger batch", func(l *load) { l.batch *= 2 }, total)
		compare("no lines for publishes", func(l *load) { l.publishLogs = false }, total)
		compare("a longer refresh", func(l *load) { l.refresh *= 2 }, total)
		compare("fewer tags", func(l *load) { l.tags = math.Max(1, l.tags/2) }, writes)
		compare("no contributors", func(l *load) { l.contributors = 0 }, writes)
		// An increment is one write at most for its tag, one for its contributor, and one for the checkpoint of each.
		if most := p.write.of(billion * 4); base.writes > most*(1+1e-9) {
			t.Errorf("writes cost $%v, more than four for each increment: $%v", base.writes, most)
		}
	})
}

func TestDistinct(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ of, n, want float64 }{
		"of none":              {0, 100, 0},
		"of one":               {1, 100, 1},
		"among one":            {1000, 1, 1},
		"among few of many":    {1e6, 10, 9.99996},
		"among many of few":    {16, 1e6, 16},
		"among as many":        {1000, 1000, 632.3},
		"among nothing at all": {1000, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := distinct(tc.of, tc.n); math.Abs(got-tc.want) > 0.001*tc.want {
				t.Errorf("distinct(%v, %v) = %v, want %v", tc.of, tc.n, got, tc.want)
			}
		})
	}
}

func TestDollars(t *testing.T) {
	t.Parallel()
	for usd, want := range map[float64]string{
		0: "0", 0.001: "<0.01", 0.005: "0.01", 1.234: "1.23", 10: "10", 999.6: "1,000", 1234567: "1,234,567",
	} {
		if got := dollars(usd); got != want {
			t.Errorf("dollars(%v) = %q, want %q", usd, got, want)
		}
	}
}

// execute runs accrue cost and returns its exit code and output.
func execute(t *testing.T, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, failed bytes.Buffer
	code = cli.Execute(t.Context(), Command(), arguments, &out, &failed)
	return code, out.String(), failed.String()
}

func TestCommandPrintsTheCostOfALoad(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{"--by-requests": "a billion increments: $", "--table": "| your load |"} {
		code, got, _ := execute(t, "--rate", "500", "--batch", "10", argument)
		if code != 0 || strings.Count(got, "\n") != 3 || !strings.Contains(got, want) {
			t.Errorf("exit code %d, printed:\n%s", code, got)
		}
	}
	if code, got, _ := execute(t); code != 0 || strings.Count(got, "\n") != 3 {
		t.Errorf("exit code %d without flags, printed:\n%s", code, got)
	}
}

func TestCommandPrintsJSONWhoseItemsAddUp(t *testing.T) {
	t.Parallel()
	code, out, _ := execute(t, "--json", "--batch", "100")
	var items map[string]float64
	if err := json.Unmarshal([]byte(out), &items); err != nil {
		t.Fatalf("exit code %d, printed %s: %v", code, out, err)
	}
	sum := 0.0
	for name, dollars := range items {
		if name != "total" {
			sum += dollars
		}
	}
	if sum == 0 || math.Abs(sum-items["total"]) > 1e-6*sum {
		t.Errorf("the items add up to %v: %v", sum, items)
	}
}

func TestCommandRefusesImpossibleLoads(t *testing.T) {
	t.Parallel()
	code, _, got := execute(t, "--rate", "Inf", "--batch", "2000", "--window", "1ms")
	for _, name := range []string{"--rate", "--batch", "--window"} {
		if code != 2 || !strings.Contains(got, name) {
			t.Errorf("exit code %d with %q, want 2 and %s", code, got, name)
		}
	}
	if code, _, _ := execute(t, "500"); code != 2 {
		t.Errorf("exit code %d for an argument, want 2", code)
	}
}

func TestDocumentationShowsTheTables(t *testing.T) {
	t.Parallel()
	_, all, _ := execute(t, "--tables")
	for name, printed := range map[string]string{"scaling.md": all, "firebase.md": watching(listPrices()), "abuse.md": strangers(listPrices())} {
		const begin, end = "<!-- tables: accrue cost -->\n\n", "\n<!-- end of tables -->"
		path := filepath.Join("..", "..", "docs", name)
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, found := strings.Cut(string(page), begin)
		shown, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("%s has no place for the tables", path)
		}
		if *update {
			if err := os.WriteFile(path, []byte(before+begin+printed+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if shown != printed {
			t.Errorf("%s shows other tables than `accrue cost` prints. Update them with\n\tcd tools && go test ./cost -update", path)
		}
	}
}

func TestPerBillionIsTheTotalOfTheTables(t *testing.T) {
	t.Parallel()
	p := listPrices()
	total := func(change func(*load)) float64 {
		b := estimate(byInstances("", change).load, billion, p)
		return b.total()
	}
	for name, pair := range map[string][2]float64{
		"100 tags":                      {PerBillion(100, 0), total(func(l *load) { l.batch, l.tags = 100, 100 })},
		"1,000 tags, TAG_DOCUMENTS=30s": {PerBillion(1000, 30*time.Second), total(func(l *load) { l.batch, l.tagDocuments = 100, 30*time.Second })},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: $%.2f, want $%.2f", name, pair[0], pair[1])
		}
	}
	want := "**" + dollars(PerBillion(1000, 30*time.Second)) + "**"
	for line := range strings.Lines(document(p)) {
		if strings.HasPrefix(line, "| 1,000 tags, TAG_DOCUMENTS=30s |") && !strings.Contains(line, want) {
			t.Errorf("docs/scaling.md has another total than %s: %s", want, line)
		}
	}
}

// The expected costs are calculated by hand.
func TestCostOfReadersEqualsAManualCalculation(t *testing.T) {
	t.Parallel()
	l := usual()
	l.window, l.refresh, l.partitions = 2*time.Second, time.Second, 4
	firebase, streams := readers(l, 1e6, 1500, 10, listPrices())
	// 1,500 readers of 10 tags, every other second for a million seconds.
	if want := 1500 * 10 * 5e5 / 1e5 * 0.03; math.Abs(firebase-want) > 0.001*want {
		t.Errorf("Firebase clients cost $%.2f, want $%.2f", firebase, want)
	}
	// Two instances that read five documents a second each, and events of 100 bytes and 15 for each tag.
	if want := 2*5e6/1e5*0.03 + 2*(18+1) + 1500*5e5*250/gib*0.12; math.Abs(streams-want) > 0.001*want {
		t.Errorf("streams cost $%.2f, want $%.2f", streams, want)
	}
}

// A few thousand posts a day are free; what is above is paid.
func TestModeSingleIsFreeForAFewThousandPostsADay(t *testing.T) {
	t.Parallel()
	total := func(posts float64) (usd float64) {
		for _, q := range single(posts, listPrices()) {
			usd += q.cost()
		}
		return usd
	}
	if usd := total(3000); usd != 0 {
		t.Errorf("3,000 posts a day cost $%.2f a month", usd)
	}
	// 60,000 documents a day, of which 20,000 are free, 5,000 deletes too many for none, and 315,000 vCPU-seconds, of which
	// 180,000 are; 30,000 posts a month of 250 MiB-seconds each are free.
	if got, want := total(10_000), 30*40_000/1e5*0.09+30*10_000/1e5*0.01+135_000*0.000024; math.Abs(got-want) > 0.001*want {
		t.Errorf("10,000 posts a day cost $%.4f a month, want $%.4f", got, want)
	}
	if n := largest(listPrices()); total(n) != 0 || total(n+100) == 0 {
		t.Errorf("up to %v a day are said to be free, which cost $%.2f, and $%.2f for 100 more", n, total(n), total(n+100))
	}
}

// The expected costs are calculated by hand.
func TestCostOfStrangersEqualsAManualCalculation(t *testing.T) {
	t.Parallel()
	const gigabit = 125e6 * 86400 / gib * 0.12
	for name, tc := range map[string]struct {
		bounds                  bounds
		posting, reading, stats float64
	}{
		// 60,000 requests a second, on 20 instances of a vCPU and half a GiB; 100 pages a second of 1,001 documents; 600 MB a second would be answered.
		"unbounded": {bounds{20, 10, true, 0, 0}, 5184*0.4 + 20*86400*(0.000024+0.00000125) + 5184e6*250/gib*0.12, 100 * 1001 * 86400 / 1e5 * 0.03, gigabit},
		// An instance, whatever the number of requests; a thousand documents a second; 60 MB a second.
		"bounded": {bounds{1, 1, false, 1000, 0}, 86400*0.000019 + 259.2e6*250/gib*0.12, 1000 * 86400 / 1e5 * 0.03, 60e6 * 86400 / gib * 0.12},
		// Ten requests a second, of 20 kB.
		"throttled": {bounds{3, 3, true, 1000, 10}, 0.864*0.4 + 86400*(0.000024+0.00000125) + 0.864e6*250/gib*0.12, 3000 * 86400 / 1e5 * 0.03, 0.2e6 * 86400 / gib * 0.12},
	} {
		posting, reading, stats := abuse(tc.bounds, listPrices())
		for what, pair := range map[string][2]float64{"posting": {posting, tc.posting}, "reading": {reading, tc.reading}, "/stats": {stats, tc.stats}} {
			if math.Abs(pair[0]-pair[1]) > 0.001*pair[1] {
				t.Errorf("%s: %s costs $%.2f a day, want $%.2f", name, what, pair[0], pair[1])
			}
		}
	}
}
