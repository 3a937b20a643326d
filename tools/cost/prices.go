package cost

// pricesOf is the date of the prices. They are list prices in US dollars for us-central1, without free tiers, commitments and
// taxes.
const pricesOf = "November 2026"

// price is the price of a unit in US dollars.
type price struct {
	what   string
	unit   string
	usd    float64
	per    float64 // the size of a unit
	source string
}

// of returns the cost of an amount of bytes, documents, requests, or seconds of a vCPU or a GiB.
func (p price) of(amount float64) float64 { return amount / p.per * p.usd }

const (
	gib = 1 << 30
	tib = 1 << 40

	// smallestRequest is the minimum size in bytes that Pub/Sub bills for a publish or a pull.
	smallestRequest = 1000

	pubsubPricing    = "https://cloud.google.com/pubsub/pricing"
	firestorePricing = "https://cloud.google.com/firestore/pricing"
	runPricing       = "https://cloud.google.com/run/pricing"
	loggingPricing   = "https://cloud.google.com/stackdriver/pricing"
	networkPricing   = "https://cloud.google.com/vpc/network-pricing"
)

// prices has the prices that an estimate uses.
type prices struct {
	throughput                  price // into and out of Pub/Sub, each
	archive                     price // of Pub/Sub into BigQuery
	write, read                 price // of a Firestore document
	request                     price // to a service with request-based billing
	requestCPU, requestMemory   price // of its instances while they serve requests
	instanceCPU, instanceMemory price // of a service with instance-based billing
	workerCPU, workerMemory     price
	logs                        price
	answers                     price // to the internet
	remove                      price // of a Firestore document

	// By the month.
	storage, recovery, backups price // of a database
	retention                  price // of messages
	table                      price // what the archive has written
	condition, samples         price // of alerts and of metrics
	balancer                   price
}

// unitGiB is the unit of prices by size.
const unitGiB = "GiB"

func listPrices() prices {
	return prices{
		throughput:     price{"Pub/Sub, published or delivered", "TiB", 40, tib, pubsubPricing},
		archive:        price{"Pub/Sub, delivered to BigQuery (the archive)", "TiB", 50, tib, pubsubPricing},
		write:          price{"Firestore, documents written", "100,000", 0.09, 1e5, firestorePricing},
		read:           price{"Firestore, documents read", "100,000", 0.03, 1e5, firestorePricing},
		request:        price{"Cloud Run, requests, billed by requests", "million", 0.40, 1e6, runPricing},
		requestCPU:     price{"Cloud Run, CPU, billed by requests", "vCPU-second", 0.000024, 1, runPricing},
		requestMemory:  price{"Cloud Run, memory, billed by requests", "GiB-second", 0.0000025, 1, runPricing},
		instanceCPU:    price{"Cloud Run, CPU, billed by instances", "vCPU-second", 0.000018, 1, runPricing},
		instanceMemory: price{"Cloud Run, memory, billed by instances", "GiB-second", 0.000002, 1, runPricing},
		workerCPU:      price{"Cloud Run, CPU of a worker pool", "vCPU-second", 0.000011244, 1, runPricing},
		workerMemory:   price{"Cloud Run, memory of a worker pool", "GiB-second", 0.000001235, 1, runPricing},
		logs:           price{"Cloud Logging, stored", unitGiB, 0.50, gib, loggingPricing},
		answers:        price{"Answers to the internet", unitGiB, 0.12, gib, networkPricing},
		remove:         price{"Firestore, documents deleted", "100,000", 0.01, 1e5, firestorePricing},
		storage:        price{"Firestore, stored, a month", unitGiB, 0.15, gib, firestorePricing},
		recovery:       price{"Firestore, point-in-time recovery, a month", unitGiB, 0.15, gib, firestorePricing},
		backups:        price{"Firestore, backups, a month", unitGiB, 0.03, gib, firestorePricing},
		retention:      price{"Pub/Sub, retained by the topic, a month", unitGiB, 0.27, gib, pubsubPricing},
		table:          price{"BigQuery, stored, a month", unitGiB, 0.02, gib, "https://cloud.google.com/bigquery/pricing"},
		condition:      price{"Cloud Monitoring, a condition of an alert, a month", "condition", 1.50, 1, loggingPricing},
		samples:        price{"Managed Service for Prometheus, samples", "million", 0.06, 1e6, loggingPricing},
		balancer:       price{"A load balancer's rule, and Cloud Armor's policy and rule, a month", "deployment", 24.25, 1, networkPricing},
	}
}

// all returns the prices in the order of the table.
func (p *prices) all() []price {
	return []price{
		p.throughput, p.archive, p.write, p.read, p.request, p.requestCPU, p.requestMemory,
		p.instanceCPU, p.instanceMemory, p.workerCPU, p.workerMemory, p.logs, p.answers,
		p.remove, p.storage, p.recovery, p.backups, p.retention, p.table, p.condition, p.samples, p.balancer,
	}
}
