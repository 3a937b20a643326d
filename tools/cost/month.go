package cost

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// summary describes the cost of a load in three lines: of a billion increments, of a month, and what most of it is for.
func summary(l load, p prices) string {
	b := estimate(l, billion, p)
	monthly := estimate(l, l.rate*month.Seconds(), p)
	idle := quiet(l, month.Seconds(), p)
	items := []struct {
		what, less string
		usd        float64
	}{
		{"requests and CPU of ingest", "batches, and above ten requests a second instances instead of requests", b.ingest},
		{"answers", "batches, and /stats read with an ETag", b.answers},
		{"Pub/Sub", "batches, and fewer instances of ingest", b.pubsub},
		{"documents written", "a longer WINDOW", b.writes},
		{"documents read", "a longer REFRESH, and fewer partitions", b.reads},
		{"the aggregator and query, which always run", "nothing at this rate but accrue run --project, which sleeps", b.workers},
		{"logs", "no request logs", b.logs},
	}
	most := items[0]
	for _, item := range items {
		if item.usd > most.usd {
			most = item
		}
	}
	total := b.total()
	return fmt.Sprintf("a billion increments: $%s\na month of them: $%s, and $%s without any\nmost of it, %.0f %%: %s; less with %s\n",
		dollars(total), dollars(monthly.total()), dollars(idle.total()), 100*most.usd/total, most.what, most.less)
}

// quota is something of which a part is free.
type quota struct {
	what       string
	used, free float64
	per        string // day or month
	price      price
}

// cost returns the price of a month of what is not free.
func (q quota) cost() float64 {
	over := max(0, q.used-q.free)
	if q.per == "day" {
		over *= month.Hours() / 24
	}
	return q.price.of(over)
}

// Planning values of mode single.
const (
	// holdSeconds is how long a post is held, --hold, and a bit.
	holdSeconds = 1.05
	singleGiB   = 0.25
	// singleRefresh is REFRESH, and foldCommits how many Commits share a document of keys that a start reads.
	singleRefresh, foldCommits = 5, 256
	// coldStarts is how often a day the process starts and reads the keys of a day.
	coldStarts = 24
	// writesPerPost are the documents of a keyed post that has a window of its own: tag, contributor, checkpoint, keys, and its
	// share of the documents of the minute and the hour and of copies of keys.
	writesPerPost = 6
)

// single returns what mode single uses for so many keyed posts a day, each alone in its window, which is the worst case.
func single(posts float64, p prices) []quota {
	const days = 30
	awake := min(posts*holdSeconds, 86_400) // seconds a day
	writes := posts * writesPerPost
	return []quota{
		{"Cloud Run, CPU, vCPU-seconds", awake * days, 180_000, "month", p.requestCPU},
		{"Cloud Run, memory, GiB-seconds", awake * days * singleGiB, 360_000, "month", p.requestMemory},
		{"Cloud Run, requests", 2 * posts * days, 2e6, "month", p.request}, // as many reads as posts
		{"Firestore, documents written", writes, 20_000, "day", p.write},
		{"Firestore, documents read", awake/singleRefresh*2 + awake + coldStarts*(posts/foldCommits+10), 50_000, "day", p.read},
		{"Firestore, documents deleted", writes / 2, 20_000, "day", p.remove},
		{"Pub/Sub, bytes", days * (posts*2 + awake*idlePulls) * smallestRequest, 10 * gib, "month", p.throughput},
		{"Cloud Logging, bytes", days * posts * publishLogBytes, 50 * gib, "month", p.logs},
	}
}

// freeTier returns the table of mode single for some numbers of posts a day.
func freeTier(p prices) string {
	var d strings.Builder
	rates := []float64{100, 1000, 3000, 10_000}
	d.WriteString("| of the free quota | of | free |")
	for _, posts := range rates {
		fmt.Fprintf(&d, " %s a day |", grouped(posts))
	}
	d.WriteString("\n|---|---|--:|" + strings.Repeat("--:|", len(rates)) + "\n")
	total := make([]float64, len(rates))
	for i, q := range single(rates[0], p) {
		fmt.Fprintf(&d, "| %s | a %s | %s |", q.what, q.per, grouped(q.free))
		for r, posts := range rates {
			used := single(posts, p)[i]
			total[r] += used.cost()
			fmt.Fprintf(&d, " %.0f %% |", 100*used.used/used.free)
		}
		d.WriteString("\n")
	}
	d.WriteString("| **a month, $** | | |")
	for _, usd := range total {
		fmt.Fprintf(&d, " **%s** |", dollars(usd))
	}
	d.WriteString("\n")
	return d.String()
}

// bounds are what limits the requests of strangers.
type bounds struct {
	ingests, queries float64 // most instances
	byRequests       bool
	reads            float64 // documents a second that an instance of query reads for requests
	perSecond        float64 // requests of one address, 0 for any number
}

// Planning values of abuse.
const (
	// requestsPerInstance is the number of requests a second that an instance takes.
	requestsPerInstance = 3000
	// largestPage is the number of documents of the largest page of contributors.
	largestPage = 1001
	// linkBytes is what one computer receives in a second: 1 Gbit.
	linkBytes = 1e9 / 8
)

// abuse returns what a day of one stranger costs who posts, one who reads lists of contributors, and one who reads /stats of 1,000 tags
// without compression and without ETags, as fast as the bounds allow.
func abuse(b bounds, p prices) (posting, reading, stats float64) {
	const day = 86_400
	posts := b.ingests * requestsPerInstance
	pages := b.reads * b.queries / largestPage
	if b.reads == 0 {
		pages = 100 // a second, of one computer
	}
	instances := b.ingests
	if b.perSecond > 0 {
		posts, pages = min(posts, b.perSecond), min(pages, b.perSecond)
		instances = max(1, posts/requestsPerInstance)
	}
	if b.byRequests {
		posting = p.request.of(posts*day) + instances*day*(p.requestCPU.of(1)+p.requestMemory.of(ingestGiB))
	} else {
		posting = instances * day * (p.instanceCPU.of(1) + p.instanceMemory.of(ingestGiB))
	}
	posting += p.answers.of(posts * answerBytes * day)
	reading = p.read.of(pages * largestPage * day)
	answers := math.Min(linkBytes, b.queries*requestsPerInstance*1000*totalBytes)
	if b.perSecond > 0 {
		answers = math.Min(answers, b.perSecond*1000*totalBytes)
	}
	stats = p.answers.of(answers * day)
	return posting, reading, stats
}

// strangers returns the table of docs/abuse.md.
func strangers(p prices) string {
	var d strings.Builder
	d.WriteString("| a day of one stranger | posting | reading lists of contributors | reading `/stats` |\n|---|--:|--:|--:|\n")
	for _, r := range []struct {
		what string
		b    bounds
	}{
		{"no bounds: 20 instances of ingest, 10 of query", bounds{20, 10, true, 0, 0}},
		{"the defaults: three instances, and a bound on reads", bounds{3, 3, true, 1000, 0}},
		{"`cpu_idle = false`: no price per request", bounds{3, 3, false, 1000, 0}},
		{"`max_instances = 1`", bounds{1, 1, true, 1000, 0}},
		{"`load_balancer`, 600 requests a minute", bounds{3, 3, true, 1000, 10}},
	} {
		posting, reading, stats := abuse(r.b, p)
		fmt.Fprintf(&d, "| %s | %s | %s | %s |\n", r.what, dollars(posting), dollars(reading), dollars(stats))
	}
	return d.String()
}

// keeping returns the table of what is kept and watched, for a database and messages of a size.
func keeping(p prices) string {
	const stored, messages = 1 * gib, 10 * gib // in the database; published in a month
	weekly, daily := 14.0, 7.0
	rows := []struct {
		what string
		usd  float64
	}{
		{"the database, 1 GiB", p.storage.of(stored)},
		{"point-in-time recovery of it, at most as much again", p.recovery.of(stored)},
		{"7 daily and 14 weekly backups of it", p.backups.of(stored * (weekly + daily))},
		{"`message_retention` of 7 days, for 10 GiB of messages a month", p.retention.of(messages * 7 / 30)},
		{"`archive`, for 10 GiB of messages a month, after a year", p.archive.of(messages) + p.table.of(12*messages)},
		{"alerts, 22 conditions", p.condition.of(22)},
		{"`collector`, half a vCPU beside three instances, and 500 series every 30 s", 3*(p.instanceCPU.of(month.Seconds()/2)+p.instanceMemory.of(month.Seconds()/4)) + p.samples.of(500*month.Seconds()/30)},
		{"`load_balancer` and its policy", p.balancer.of(1)},
	}
	var d strings.Builder
	d.WriteString("| a month of | $ |\n|---|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(&d, "| %s | %s |\n", r.what, dollars(r.usd))
	}
	return d.String()
}

// largest returns the number of posts a day up to which a month of mode single is free.
func largest(p prices) float64 {
	posts := 0.0
	for ; posts < 1e6; posts += 100 {
		if slices.ContainsFunc(single(posts+100, p), func(q quota) bool { return q.used > q.free }) {
			break
		}
	}
	return posts
}
