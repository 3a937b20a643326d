package cost

import (
	"math"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

// load is a steady stream of increments and the deployment that takes it.
type load struct {
	// rate is how many increments come in a second.
	rate float64
	// batch is how many increments a request posts: 1 to 1,000.
	batch float64
	// tags is how many tags the increments are spread over, evenly: the worst case for writes.
	tags float64
	// contributors is the number of contributors that increments name, one each; 0 for none.
	contributors float64

	window, refresh time.Duration
	partitions      float64
	// ingests is the number of ingest's instances; 0 for as many as the rate needs.
	ingests float64
	queries float64

	// byRequests bills ingest by requests: CPU is on, and paid, only while one is under way.
	byRequests bool
	// requestLogs stores Cloud Run's line for every request.
	requestLogs bool
	// publishLogs stores ingest's lines of what it publishes.
	publishLogs bool
	// multiRegion puts the database into several regions, for twice the price.
	multiRegion bool
	// writeEach writes every increment to Firestore by itself, as a counter without Accrue would: for comparison.
	writeEach bool
}

// usual is the load that the tables vary: what a deployment with the defaults of terraform/ takes.
func usual() load {
	return load{
		rate: 10_000, batch: 1, tags: 1000, window: time.Second, refresh: 500 * time.Millisecond, partitions: 16,
		queries: 1, byRequests: true, publishLogs: true,
	}
}

// Planning values: measured where we could measure, on the careful side.
const (
	// cpuPerRequest and cpuPerIncrement are the seconds of a vCPU that ingest takes (make bench measures half of it).
	cpuPerRequest   = 200e-6
	cpuPerIncrement = 1.5e-6
	// busy is how far autoscaling loads an instance's CPU.
	busy = 0.6
	// publishSeconds is how long one publish takes: an instance sends one after the other.
	publishSeconds = 0.020
	// billedSeconds is the step in which time under requests is billed.
	billedSeconds = 0.100
	// pullsPerWindow is how often, at most, the aggregator pulls: four pulls under way, 20 times a window each.
	pullsPerWindow = 80
	// idlePulls is how many pulls a second there are when there is nothing to find.
	idlePulls = 2
	// maxDocuments is the most that one Commit changes beside its checkpoint: COMMIT_DOCUMENTS.
	maxDocuments = 1000
	// A message is counted with the time and the id that Pub/Sub gives it.
	messageOverhead = 20 + 16
	// The sizes of lines and answers in bytes.
	requestLogBytes = 800
	publishLogBytes = 400
	// publishLogs is how many lines a second an instance writes of what it publishes, at most.
	publishLogs = 4
	answerBytes = 250
	// An event of a stream, and what it says of each tag.
	eventBytes, changeBytes = 100, 15
	// streamsPerQuery is how many streams an instance of query holds.
	streamsPerQuery = 1000
	// Sizes of instances: those of terraform/.
	ingestGiB, queryGiB, aggregatorGiB = 0.5, 0.5, 1
)

// name and contributor are of usual length, for the size of an increment in a message.
var (
	name        = strings.Repeat("n", 8)
	contributor = strings.Repeat("c", 12)
)

// bill is what a load costs, in US dollars.
type bill struct {
	ingest, pubsub, writes, reads, workers, logs, answers float64
}

func (b *bill) total() float64 {
	return b.ingest + b.pubsub + b.writes + b.reads + b.workers + b.logs + b.answers
}

// estimate is what counting so many increments of a load costs. A load without increments is not for it: see quiet.
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
		// Requests come at random: an instance is free of them for a part of the time.
		active := 1 - math.Exp(-requests/seconds/instances*billedSeconds)
		b.ingest = p.request.of(requests) + instances*seconds*active*(p.requestCPU.of(1)+p.requestMemory.of(ingestGiB))
	} else {
		b.ingest = instances * seconds * (p.instanceCPU.of(1) + p.instanceMemory.of(ingestGiB))
	}
	b.answers = p.answers.of(requests * answerBytes)

	// Pub/Sub, in and out.
	publishes := math.Min(requests/seconds, instances/publishSeconds) // a second
	each := l.rate / publishes
	messages := math.Max(distinct(l.partitions, each), each/message.MaxEntries) // of a publish
	entry := float64(message.IncrementSize(name, message.Key{}))
	if l.contributors > 0 {
		messages = distinct(l.partitions, 2*each)
		entry += float64(message.ContributionSize(contributor, message.Key{}))
	}
	header := float64(len(new(message.Builder).Encode(message.NewPublisher(), 1, 1<<20, time.Unix(1<<31, 0))))
	size := each*entry + messages*(header+messageOverhead)
	pulls := math.Max(idlePulls, math.Min(publishes*messages, pullsPerWindow/l.window.Seconds()))
	b.pubsub = p.throughput.of(seconds * (publishes*math.Max(smallestRequest, size) + math.Max(pulls*smallestRequest, publishes*size)))

	// Firestore: what a window changes, and the checkpoints with it.
	n := l.rate * l.window.Seconds()
	changed := distinct(l.tags, n) + distinct(l.contributors, n)
	commits := distinct(l.partitions, n) * math.Max(1, math.Ceil(changed/l.partitions/maxDocuments))
	b.writes = p.write.of(seconds / l.window.Seconds() * (changed + commits))
	if l.writeEach {
		b.writes = p.write.of(increments)
	}
	b.reads = p.read.of(seconds * l.queries * (l.partitions/l.refresh.Seconds() + 1)) // and recognition's question
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

// quiet returns the cost of seconds without increments, in which the aggregator and query poll.
func quiet(l load, seconds float64, p prices) bill {
	const interval = 10 // seconds between two reads of an idle query
	b := bill{
		pubsub:  p.throughput.of(seconds * idlePulls * smallestRequest),
		reads:   p.read.of(seconds / interval * l.queries * (l.partitions + 1)),
		workers: always(l, seconds, p),
	}
	if !l.byRequests {
		b.ingest = math.Max(1, l.ingests) * seconds * (p.instanceCPU.of(1) + p.instanceMemory.of(ingestGiB))
	}
	return b
}

// always is what the aggregator and query cost, whatever they do.
func always(l load, seconds float64, p prices) float64 {
	return seconds * (p.workerCPU.of(1) + p.workerMemory.of(aggregatorGiB) +
		l.queries*(p.instanceCPU.of(1)+p.instanceMemory.of(queryGiB)))
}

// readers is what people who watch tags cost for some seconds, if each of the tags changes in every window: as Firebase
// clients, of whom each is billed a read for each change, and as readers of query's streams, which read the checkpoints
// once for all of them. What Firestore's own answers weigh on the network comes to the former yet.
func readers(l load, seconds, people, watched float64, p prices) (firebase, streams float64) {
	l.queries = math.Ceil(people / streamsPerQuery)
	events := seconds / l.window.Seconds() * people
	firebase = p.read.of(events * watched)
	streams = p.read.of(seconds*l.queries*(l.partitions/l.refresh.Seconds()+1)) +
		seconds*l.queries*(p.instanceCPU.of(1)+p.instanceMemory.of(queryGiB)) +
		p.answers.of(events*(eventBytes+watched*changeBytes))
	return firebase, streams
}

// breakEven is the number of steady requests a second from which an ingest that is billed by instances is the cheaper.
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

// distinct is how many different ones of so many equally likely are expected among n.
func distinct(of, n float64) float64 {
	if of == 0 {
		return 0
	}
	return of * -math.Expm1(n*math.Log1p(-1/math.Max(of, 1+1e-9)))
}
