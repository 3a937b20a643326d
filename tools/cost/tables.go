package cost

import (
	"fmt"
	"strings"
	"time"
)

const (
	billion = 1e9
	month   = 30 * 24 * time.Hour
)

// row is a row of a table: a load and its description.
type row struct {
	what string
	load load
}

// with returns the usual load with a change.
func with(what string, change func(*load)) row {
	l := usual()
	change(&l)
	return row{what, l}
}

// byInstances is the usual load with instance-based billing, which is cheaper above some number of requests per second.
func byInstances(what string, change func(*load)) row {
	return with(what, func(l *load) {
		l.byRequests = false
		change(l)
	})
}

func nothing(*load) {}

// document returns the tables and prices in docs/scaling.md.
func document(p prices) string {
	var d strings.Builder
	section := func(title, text string, rows ...row) {
		fmt.Fprintf(&d, "### %s\n\n%s\n\n%s\n", title, text, table(rows, p))
	}
	section("By how they are posted",
		"10,000 increments a second over 1,000 tags, a window of 1 s, 16 partitions, one query.",
		with("single posts, ingest billed by requests", nothing),
		byInstances("single posts, ingest billed by instances", nothing),
		byInstances("batches of 10", func(l *load) { l.batch = 10 }),
		byInstances("batches of 100", func(l *load) { l.batch = 100 }),
		byInstances("batches of 1,000", func(l *load) { l.batch = 1000 }),
	)
	section("By the rate",
		"Batches of 100, the rest as above. A slow stream takes longer over its billion, and pays for the time.",
		byInstances("100/s (four months)", func(l *load) { l.batch, l.rate = 100, 100 }),
		byInstances("1,000/s (twelve days)", func(l *load) { l.batch, l.rate = 100, 1000 }),
		byInstances("10,000/s (a day)", func(l *load) { l.batch, l.rate = 100, 10_000 }),
		byInstances("100,000/s (three hours)", func(l *load) { l.batch, l.rate = 100, 100_000 }),
		byInstances("1,000,000/s (17 minutes)", func(l *load) { l.batch, l.rate = 100, 1_000_000 }),
	)
	section("By what they count",
		"Batches of 100 at 10,000/s. A window writes each tag and each contributor that it changed once; with TAG_DOCUMENTS the documents of tags are written less often.",
		byInstances("10 tags", func(l *load) { l.batch, l.tags = 100, 10 }),
		byInstances("1,000 tags", func(l *load) { l.batch = 100 }),
		byInstances("1,000 tags, TAG_DOCUMENTS=30s", func(l *load) { l.batch, l.tagDocuments = 100, 30*time.Second }),
		byInstances("1,000 tags, TAG_DOCUMENTS=off", func(l *load) { l.batch, l.tagDocuments = 100, never }),
		byInstances("100,000 tags", func(l *load) { l.batch, l.tags = 100, 100_000 }),
		byInstances("100,000 tags, TAG_DOCUMENTS=30s", func(l *load) { l.batch, l.tags, l.tagDocuments = 100, 100_000, 30*time.Second }),
		byInstances("100,000 tags, TAG_DOCUMENTS=off", func(l *load) { l.batch, l.tags, l.tagDocuments = 100, 100_000, never }),
		byInstances("100,000 tags, window of 10 s, refresh of 5 s", func(l *load) {
			l.batch, l.tags, l.window, l.refresh = 100, 100_000, 10*time.Second, 5*time.Second
		}),
		byInstances("1,000 tags, window of 10 s, refresh of 5 s", func(l *load) {
			l.batch, l.window, l.refresh = 100, 10*time.Second, 5*time.Second
		}),
		byInstances("1,000 tags, and each names one of 1,000 people", func(l *load) { l.batch, l.contributors = 100, 1000 }),
		byInstances("1,000 tags, and each names one of a million people", func(l *load) { l.batch, l.contributors = 100, 1e6 }),
	)
	section("By instances and partitions",
		"Batches of 10 at 10,000/s. More instances publish smaller groups; more readers and more partitions read more checkpoints.",
		byInstances("as many ingests as needed", func(l *load) { l.batch = 10 }),
		byInstances("10 ingests", func(l *load) { l.batch, l.ingests = 10, 10 }),
		byInstances("100 ingests", func(l *load) { l.batch, l.ingests = 10, 100 }),
		byInstances("10 queries", func(l *load) { l.batch, l.queries = 10, 10 }),
		byInstances("20 tiers of recognition", func(l *load) { l.batch, l.tiers = 10, 20 }),
		byInstances("an archive in BigQuery, without its storage", func(l *load) { l.batch, l.archive = 10, true }),
		byInstances("1,024 partitions", func(l *load) { l.batch, l.partitions = 10, 1024 }),
		byInstances("1,024 partitions, refresh of 5 s", func(l *load) { l.batch, l.partitions, l.refresh = 10, 1024, 5*time.Second }),
	)
	section("The traps",
		"Single posts at 10,000/s, and each trap alone.",
		byInstances("none", nothing),
		byInstances("request logs stored", func(l *load) { l.requestLogs = true }),
		with("ingest billed by requests", nothing),
		byInstances("a multi-region database", func(l *load) { l.multiRegion = true }),
		byInstances("a write for every increment, as without Accrue", func(l *load) { l.writeEach = true }),
	)

	fmt.Fprintf(&d, "### A month of little\n\nSteady single posts for 30 days, of 10 tags. Billed by instances, ingest is cheaper "+
		"from some %.0f requests a second on.\n\n%s", breakEven(p), header("a month"))
	for _, rate := range []float64{0, 1, 10, 100} {
		what := fmt.Sprintf("%.0f/s", rate)
		if rate == 0 {
			what = "nothing"
		}
		few := func(l *load) { l.rate, l.tags = rate, 10 }
		for _, r := range []row{with(what+", ingest billed by requests", few), byInstances(what+", ingest billed by instances", few)} {
			b := estimate(r.load, rate*month.Seconds(), p)
			if rate == 0 {
				b = quiet(r.load, month.Seconds(), p)
			}
			fmt.Fprint(&d, line(r.what, b))
		}
	}

	fmt.Fprintf(&d, "\n### A month of mode single\n\nKeyed posts spread over the day, each in a window of its own. Up to %s a day are free.\n\n%s", grouped(largest(p)), freeTier(p))

	fmt.Fprintf(&d, "\n### What is kept and watched\n\n%s", keeping(p))

	fmt.Fprintf(&d, "\n### A day of readers\n\nFirebase clients against streams of query ([firebase.md](firebase.md)).\n\n%s", watching(p))

	fmt.Fprintf(&d, "\n### The prices\n\nList prices of %s for us-central1, without free tiers, commitments and taxes.\n\n"+
		"| what | of | $ |\n|---|---|--:|\n", pricesOf)
	for _, price := range p.all() {
		fmt.Fprintf(&d, "| [%s](%s) | %s | %s |\n", price.what, price.source, price.unit, number(price.usd))
	}
	return d.String()
}

// watching returns the cost of readers per day in Markdown, which docs/firebase.md shows too.
func watching(p prices) string {
	const day = 24 * time.Hour
	var d strings.Builder
	d.WriteString("| a day of | each watches | as Firebase clients | by `/stats/stream` |\n|---|---|--:|--:|\n")
	for _, r := range []struct{ people, tags float64 }{{1, 1}, {10, 10}, {1000, 1}, {1000, 10}, {1000, 1000}, {100_000, 1}} {
		firebase, streams := readers(usual(), day.Seconds(), r.people, r.tags, p)
		fmt.Fprintf(&d, "| %s | %s | %s | %s |\n", plural(r.people, "reader"), plural(r.tags, "tag"), dollars(firebase), dollars(streams))
	}
	return d.String()
}

// plural formats a number with a noun.
func plural(n float64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// table returns the cost of a billion increments of each load in Markdown.
func table(rows []row, p prices) string {
	var d strings.Builder
	d.WriteString(header("a billion increments"))
	for _, r := range rows {
		d.WriteString(line(r.what, estimate(r.load, billion, p)))
	}
	return d.String()
}

func header(of string) string {
	return "| " + of + " | ingest | answers | Pub/Sub | writes | reads | aggregator, query | logs | total |\n" +
		"|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
}

func line(what string, b bill) string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | **%s** |\n", what,
		dollars(b.ingest), dollars(b.answers), dollars(b.pubsub), dollars(b.writes), dollars(b.reads),
		dollars(b.workers), dollars(b.logs), dollars(b.total()))
}

// dollars formats an amount with cents below ten dollars, and in whole dollars above.
func dollars(usd float64) string {
	switch {
	case usd == 0:
		return "0"
	case usd < 0.005:
		return "<0.01"
	case usd < 10:
		return fmt.Sprintf("%.2f", usd)
	}
	return grouped(usd)
}

// grouped formats a whole number with a comma between thousands.
func grouped(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// number formats a price with all its digits.
func number(usd float64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.9f", usd), "0"), ".")
}
