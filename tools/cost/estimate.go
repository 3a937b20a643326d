package cost

import (
	"math"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

// load is a steady stream of increments and the deployment that counts it.
type load struct {
	// rate is the number of increments per second.
	rate float64
	// batch is the number of increments per request, 1 to 1,000.
	batch float64
	// tags is the number of tags. Increments are spread evenly over them, which is the worst case for writes, or with zipf as words are: the
	// n-th has 1/n of those of the first.
	tags float64
	zipf bool
	// nameBytes is the mean length of the names of tags.
	nameBytes int
	// contributors is the number of contributors. Each increment names one, unless it is 0.
	contributors float64

	window, refresh time.Duration
	// tagDocuments is TAG_DOCUMENTS: 0 for window, never for off.
	tagDocuments time.Duration
	// tiers is the number of tiers of recognition.
	tiers float64
	// archive keeps each message in BigQuery.
	archive    bool
	partitions float64
	// ingests is the number of instances of ingest, or 0 for as many as the rate needs.
	ingests float64
	queries float64
	// reads is the number of requests of /stats per second, each answered with all tags.
	reads float64

	// byRequests selects request-based billing for ingest: CPU is allocated and billed only while an instance serves requests.
	byRequests bool
	// requestLogs stores the request logs of Cloud Run.
	requestLogs bool
	// publishLogs stores the "published" lines of ingest.
	publishLogs bool
	// multiRegion uses a multi-region database for twice the price.
	multiRegion bool
	// writeEach writes each increment to Firestore separately, like a counter without Accrue, for comparison.
	writeEach bool
}

// usual is the load that the tables vary, on a deployment with the defaults of terraform/.
func usual() load {
	return load{
		rate: 10_000, batch: 1, tags: 1000, nameBytes: 8, window: time.Second, refresh: 500 * time.Millisecond, partitions: 16,
		queries: 1, tiers: 1, byRequests: true, publishLogs: true,
	}
}

// never is the value of tagDocuments for off.
const never time.Duration = math.MaxInt64

// Planning values. They are conservative, and measured where possible.
const (
	// cpuPerRequest and cpuPerIncrement are the vCPU seconds that ingest uses, twice what `accrue bench` measures.
	cpuPerRequest   = 200e-6
	cpuPerIncrement = 1.5e-6
	// busy is the CPU utilization of an instance under autoscaling.
	busy = 0.6
	// publishSeconds is the duration of a publish, and pauseSeconds the time between the beginnings of two of one instance, an eighth of it:
	// see ingest/internal/batching.
	publishSeconds = 0.020
	pauseSeconds   = publishSeconds / 8
	// billedSeconds is the granularity of billed request time.
	billedSeconds = 0.100
	// pullsPerWindow is the maximum number of pulls per window: four concurrent ones, 20 times each.
	pullsPerWindow = 80
	// idlePulls is the number of pulls per second without messages.
	idlePulls = 2
	// recognitionSeconds is the time between two searches for each tier.
	recognitionSeconds = 1
	// maxDocuments is the maximum number of documents that a Commit changes beside its checkpoint, COMMIT_DOCUMENTS.
	maxDocuments = 1000
	// Pub/Sub bills a message with its time and id.
	messageOverhead = 20 + 16
	// The sizes of lines and answers in bytes.
	requestLogBytes = 800
	publishLogBytes = 400
	// publishLogs is the maximum number of "published" lines per second and instance.
	publishLogs = 4
	answerBytes = 250
	// totalBytes is the size of a tag in an answer of /stats that is not compressed.
	totalBytes = 20
	// The sizes of a stream event and of each tag in it.
	eventBytes, changeBytes = 100, 15
	// streamsPerQuery is the number of streams per instance of query.
	streamsPerQuery = 1000
	// The sizes of instances in terraform/.
	ingestGiB, queryGiB, aggregatorGiB = 0.5, 0.5, 1
)

// contributor has a typical length, for the size of a contribution in a message.
var contributor = strings.Repeat("c", 12)

// publishesOf returns the publishes a second of requests that arrive at random at instances. An instance publishes when its pause is over, or
// the next request after that.
func publishesOf(requests, instances float64) float64 {
	each := requests / instances
	return instances / (pauseSeconds + math.Exp(-each*pauseSeconds)/each)
}

// published returns what ingest publishes at a rate of requests to Pub/Sub, a second: the messages of a request, and their size in bytes as
// they are billed. A test compares it with what ingest publishes.
func (l *load) published(publishes float64) (messages, size float64) {
	each := l.rate / publishes
	messages = distinct(l.partitions, l.changed(each))
	entry := float64(message.IncrementSize(strings.Repeat("n", l.nameBytes), message.Key{}))
	if l.contributors > 0 {
		messages = distinct(l.partitions, l.changed(each)+distinct(l.contributors, each))
		entry += float64(message.ContributionSize(contributor, message.Key{}))
	}
	messages = math.Max(messages, each/message.MaxEntries)
	header := float64(len(new(message.Builder).Encode(message.NewPublisher(), 1, 1<<20, time.Unix(1<<31, 0))))
	return messages, each*entry + messages*(header+messageOverhead)
}

// store returns what the aggregator writes to Firestore and query reads, in documents a second. A test compares it with what the aggregator
// writes.
func (l *load) store() (writes, reads float64) {
	window := l.window.Seconds()
	n := l.rate * window
	each := l.tagDocuments <= l.window // the document of a tag is written in each window
	documents := func(n float64) float64 {
		if each {
			return l.changed(n) + distinct(l.contributors, n)
		}
		return distinct(l.contributors, n)
	}
	// A window that changes more documents than a Commit takes is split by messages, so what is in several parts is written by each.
	parts := 1.0
	for documents(n/parts) > maxDocuments*l.partitions {
		parts++
	}
	// A partition commits if any of its tags or contributors changed, however many increments they got.
	commits := distinct(l.partitions, l.changed(n)+distinct(l.contributors, n)) * parts
	writes = (parts*documents(n/parts) + commits) / window
	if !each && l.tagDocuments != never {
		// Each partition writes what it owes once in the setting, beginning with the window that owes first.
		every := l.tagDocuments.Seconds() + window
		late := l.changed(l.rate * every)
		partitions := distinct(l.partitions, late)
		writes += (late + partitions*math.Max(1, math.Ceil(late/l.partitions/maxDocuments))) / every
	}
	reads = l.queries * (l.partitions/l.refresh.Seconds() + l.tiers/recognitionSeconds)
	return writes, reads
}

// bill is the cost of a load in US dollars.
type bill struct {
	ingest, pubsub, writes, reads, workers, logs, answers float64
}

func (b *bill) total() float64 {
	return b.ingest + b.pubsub + b.writes + b.reads + b.workers + b.logs + b.answers
}

// estimate returns the cost of counting the given number of increments of a load. For a load without increments see quiet.
func estimate(l load, increments float64, p prices) bill {
	seconds := increments / l.rate
	requests := increments / l.batch

	var b bill
	// Ingest.
	vcpus := (requests*cpuPerRequest + increments*cpuPerIncrement) / seconds / busy
	instances := l.ingests
	if instances == 0 {
		instances = math.Max(1, math.Ceil(vcpus))
	}
	if l.byRequests {
		// Requests arrive at random, so an instance serves none for a part of the time.
		active := 1 - math.Exp(-requests/seconds/instances*billedSeconds)
		b.ingest = p.request.of(requests) + instances*seconds*active*(p.requestCPU.of(1)+p.requestMemory.of(ingestGiB))
	} else {
		b.ingest = instances * seconds * (p.instanceCPU.of(1) + p.instanceMemory.of(ingestGiB))
	}
	b.answers = p.answers.of(requests*answerBytes + seconds*l.reads*l.tags*totalBytes)

	// Pub/Sub, in and out.
	publishes := publishesOf(requests/seconds, instances)
	messages, size := l.published(publishes)
	pulls := math.Max(idlePulls, math.Min(publishes*messages, pullsPerWindow/l.window.Seconds()))
	if l.archive {
		b.pubsub += p.archive.of(seconds * publishes * size)
	}
	b.pubsub += p.throughput.of(seconds * (publishes*math.Max(smallestRequest, size) + math.Max(pulls*smallestRequest, publishes*size)))

	writes, reads := l.store()
	b.writes, b.reads = p.write.of(seconds*writes), p.read.of(seconds*reads)
	if l.writeEach {
		b.writes = p.write.of(increments)
	}
	if l.multiRegion {
		b.writes, b.reads = 2*b.writes, 2*b.reads
	}
	b.workers = always(l, seconds, p)

	if l.publishLogs {
		b.logs += p.logs.of(seconds * math.Min(publishes*messages, instances*publishLogs) * publishLogBytes)
	}
	if l.requestLogs {
		b.logs += p.logs.of(requests * requestLogBytes)
	}
	return b
}

// PerBillion returns what a billion increments cost in US dollars: 10,000 a second in batches of 100, spread evenly over tags, with ingest billed
// by instances and TAG_DOCUMENTS as given, 0 for window. It is the total of docs/scaling.md.
func PerBillion(tags int, tagDocuments time.Duration) float64 {
	r := byInstances("", func(l *load) { l.batch, l.tags, l.tagDocuments = 100, float64(tags), tagDocuments })
	b := estimate(r.load, billion, listPrices())
	return b.total()
}

// quiet returns the cost of seconds without increments, in which the aggregator and query poll.
func quiet(l load, seconds float64, p prices) bill {
	const interval, idleRecognition = 10, 5 // seconds between two reads of an idle query, and between two searches for each tier
	b := bill{
		pubsub:  p.throughput.of(seconds * idlePulls * smallestRequest),
		reads:   p.read.of(seconds * l.queries * (l.partitions/interval + l.tiers/idleRecognition)),
		workers: always(l, seconds, p),
	}
	if !l.byRequests {
		b.ingest = math.Max(1, l.ingests) * seconds * (p.instanceCPU.of(1) + p.instanceMemory.of(ingestGiB))
	}
	return b
}

// always returns the cost of the instances of the aggregator and query.
func always(l load, seconds float64, p prices) float64 {
	return seconds * (p.workerCPU.of(1) + p.workerMemory.of(aggregatorGiB) +
		l.queries*(p.instanceCPU.of(1)+p.instanceMemory.of(queryGiB)))
}

// readers returns the cost of readers who watch tags for some seconds while each tag changes in every window: as Firebase clients,
// where each change is a billed read for each reader, and as readers of query's streams, where query reads the checkpoints once for
// all. The former does not include the network traffic of Firestore.
func readers(l load, seconds, people, watched float64, p prices) (firebase, streams float64) {
	l.queries = math.Ceil(people / streamsPerQuery)
	events := seconds / l.window.Seconds() * people
	firebase = p.read.of(events * watched)
	streams = p.read.of(seconds*l.queries*(l.partitions/l.refresh.Seconds()+l.tiers/recognitionSeconds)) +
		seconds*l.queries*(p.instanceCPU.of(1)+p.instanceMemory.of(queryGiB)) +
		p.answers.of(events*(eventBytes+watched*changeBytes))
	return firebase, streams
}

// breakEven returns the number of requests per second above which instance-based billing is cheaper for ingest.
func breakEven(p prices) float64 {
	l := usual()
	for l.rate = 1; l.rate < 1000; l.rate++ {
		l.byRequests = true
		requests := estimate(l, billion, p).ingest
		l.byRequests = false
		if estimate(l, billion, p).ingest <= requests {
			break
		}
	}
	return l.rate
}

// changed returns the expected number of tags that n increments change.
func (l *load) changed(n float64) float64 {
	if !l.zipf {
		return distinct(l.tags, n)
	}
	harmonic, sum := 0.0, 0.0
	for rank := 1.0; rank <= l.tags; rank++ {
		harmonic += 1 / rank
	}
	for rank := 1.0; rank <= l.tags; rank++ {
		sum -= math.Expm1(-n / (rank * harmonic))
	}
	return sum
}

// distinct returns the expected number of distinct values among n draws from of equally likely ones.
func distinct(of, n float64) float64 {
	if of == 0 {
		return 0
	}
	return of * -math.Expm1(n*math.Log1p(-1/math.Max(of, 1+1e-9)))
}
