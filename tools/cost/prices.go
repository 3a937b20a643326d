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
}

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
		logs:           price{"Cloud Logging, stored", "GiB", 0.50, gib, loggingPricing},
		answers:        price{"Answers to the internet", "GiB", 0.12, gib, networkPricing},
	}
}

// all returns the prices in the order of the table.
func (p *prices) all() []price {
	return []price{
		p.throughput, p.archive, p.write, p.read, p.request, p.requestCPU, p.requestMemory,
		p.instanceCPU, p.instanceMemory, p.workerCPU, p.workerMemory, p.logs, p.answers,
	}
}
