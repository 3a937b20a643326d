package api

import _ "embed"

// document is the OpenAPI document of this API. tools/openapi makes it of the notes below, which are in the notation of
// github.com/swaggo/swag; `make generate` runs it. They stand here and not at the handlers, since one handler serves
// four routes. ${…} is the value of a constant, and x-go-… a bound that is one.
//
//go:embed openapi.json
var document []byte

// title is the title of the page that shows it.
const title = "Accrue: ingest"

//	@title			Accrue: ingest
//	@version		1
//	@description	Accrue counts. Producers post small increments here as fast as they like; dashboards read exact totals from the service `query` a second or two later.
//	@description
//	@description	**202 means durable.** A request is answered 202 once everything that it counts is safely stored in Pub/Sub, and not before. From then on it is counted exactly once, whatever is killed, redelivered or retried underneath. Every other answer says whether anything may have been counted.
//	@description
//	@description	**Refusals are precise.** A body that breaks a rule changes nothing, and the answer is a problem document (RFC 9457) that points to each fault: all faults of all items of a batch at once. Unknown fields, fields given twice, and numbers written as `4.0`, `4e0` or `"4"` are refused, too. Parameters in the address mean nothing here.
//	@description
//	@description	**Retries.** A request without a key that was answered 503, or not answered at all, may have been counted, and counts again when it is repeated. With an `Idempotency-Key`, or an `id` in each item, it can be repeated until it is answered 202: it counts once.
//	@description
//	@description	**From a browser.** Every path answers CORS preflight requests and lets pages of the origins in `CORS_ORIGINS` (all, by default) read the answers and the headers `Allow`, `ETag`, `Retry-After` and `X-As-Of`.
//	@description
//	@description	What is not described here is answered 404 (no such path) or 405 (no such method, with the header `Allow`), as a problem document. `HEAD` is answered wherever `GET` is, but for the files of `/docs`. Those, and `/metrics`, are not described.
//	@tag.name			increments
//	@tag.description	What is counted: a tag's name and a value.
//	@tag.name			contributions
//	@tag.description	Who contributes: each contribution counts one for its contributor, who is recognized when they reach a tier.
//	@tag.name			health
//	@tag.description	Whether the process runs, and whether it can do its work.
//	@tag.name			documentation
//	@tag.description	This description.
//	@x-header-retry-after	{"schema":{"minimum":1},"example":1}
//	@x-header-idempotency-key	{"schema":{"x-go-pattern":"keyHeaderPattern"},"example":"order-17"}
//	@x-header-etag			{"schema":{"pattern":"^\"[0-9a-f]{16}\"$"},"example":"\"1f2e3d4c5b6a7980\""}
//	@x-header-if-none-match	{"example":"\"1f2e3d4c5b6a7980\""}
//	@x-problem-500			{"detail":""}

//	@Summary		Count one increment
//	@Description	Adds `value` to the total of the tag `name`. With a `contributor` it is a contribution of theirs as well.
//	@Description
//	@Description	Each increment is kept as it is posted; none are merged. Post many at once with `POST /increments/batch` when there are many: it is some fifty times as fast.
//	@ID				postIncrement
//	@Tags			increments
//	@Accept			json
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this request, for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. Of requests with the same key within the horizon (`IDEMPOTENCY_HORIZON`) the first counts and the others do not; all are answered 202. An `id` in the item goes before it."
//	@Param			increment	body		Increment			true	"The increment."
//	@Success		202			{object}	Accepted			"It is durable and will be counted exactly once."
//	@Failure		400			{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		413			{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415			{object}	problem.Document	"The Content-Type must be application/json, in UTF-8, without a Content-Encoding. Nothing was counted."
//	@Failure		422			{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		500			{object}	problem.Document	"Something is broken here. Whether this is counted is not known."
//	@Failure		503			{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The detail says whether anything may have been counted."
//	@Header			503			{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-request	{"name":"foo","value":4,"contributor":"ada"}
//	@x-example-202		{"accepted":1}
//	@x-example-400		{"errors":[{"pointer":"#/value","detail":"must be an integer, without a fraction or an exponent"}]}
//	@x-example-422		{"errors":[{"pointer":"#/name","detail":"must be 3 to 15 characters from a to z and _"},{"pointer":"#/value","detail":"must be an integer from 1 to 9"}]}
//	@x-example-503		{"detail":"Too much is waiting to be published. Nothing was counted."}
//	@Router			/increments [post]

//	@Summary		Count many increments
//	@Description	Counts 1 to ${increment.MaxBatch} increments, or, if one of them is wrong, none: the answer then names every fault of every item by its index.
//	@Description
//	@Description	Tags and contributors may repeat within a batch; each item counts. The increments of one batch need not show in `/stats` at the same moment.
//	@ID				postIncrements
//	@Tags			increments
//	@Accept			json
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this batch, for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. Each item without an `id` of its own has the key and its index: send the same items in the same order. Of items with the same key within the horizon (`IDEMPOTENCY_HORIZON`) the first counts and the others do not; all are answered 202."
//	@Param			increments	body		Increments			true	"The increments."
//	@Success		202			{object}	Accepted			"All are durable and each will be counted exactly once."
//	@Failure		400			{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		413			{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415			{object}	problem.Document	"The Content-Type must be application/json, in UTF-8, without a Content-Encoding. Nothing was counted."
//	@Failure		422			{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		500			{object}	problem.Document	"Something is broken here. Whether this is counted is not known."
//	@Failure		503			{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The detail says whether anything may have been counted."
//	@Header			503			{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-request	{"increments":[{"name":"foo","value":9,"id":"order-17"},{"name":"ballz","value":7,"contributor":"ada"}]}
//	@x-example-202		{"accepted":2}
//	@x-example-400		{"errors":[{"pointer":"#/increments/1/values","detail":"unknown field"}]}
//	@x-example-422		{"errors":[{"pointer":"#/increments/1/value","detail":"must be an integer from 1 to 9"}]}
//	@x-example-503		{"detail":"Too much is waiting to be published. Nothing was counted."}
//	@Router			/increments/batch [post]

//	@Summary		Count one contribution
//	@Description	Counts a contribution of the contributor, and no tag. The first contribution makes the contributor. At each tier (`RECOGNITION_TIERS`, by default 3 contributions) they are recognized, once, by an event to Pub/Sub.
//	@ID				postContribution
//	@Tags			contributions
//	@Accept			json
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this request, for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. Of requests with the same key within the horizon (`IDEMPOTENCY_HORIZON`) the first counts and the others do not; all are answered 202. An `id` in the item goes before it."
//	@Param			contribution	body		Contribution		true	"The contribution."
//	@Success		202				{object}	Accepted			"It is durable and will be counted exactly once."
//	@Failure		400				{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		413				{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415				{object}	problem.Document	"The Content-Type must be application/json, in UTF-8, without a Content-Encoding. Nothing was counted."
//	@Failure		422				{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		500				{object}	problem.Document	"Something is broken here. Whether this is counted is not known."
//	@Failure		503				{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The detail says whether anything may have been counted."
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-request	{"contributor":"ada"}
//	@x-example-202		{"accepted":1}
//	@x-example-400		{"errors":[{"pointer":"#/contributor","detail":"must be a string"}]}
//	@x-example-422		{"errors":[{"pointer":"#/contributor","detail":"must be 1 to 128 characters, without control characters"}]}
//	@x-example-503		{"detail":"Too much is waiting to be published. Nothing was counted."}
//	@Router			/contributions [post]

//	@Summary		Count many contributions
//	@Description	Counts 1 to ${increment.MaxBatch} contributions, or, if one of them is wrong, none: the answer then names every fault of every item by its index. Contributors may repeat; each item counts.
//	@ID				postContributions
//	@Tags			contributions
//	@Accept			json
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this batch, for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. Each item without an `id` of its own has the key and its index: send the same items in the same order. Of items with the same key within the horizon (`IDEMPOTENCY_HORIZON`) the first counts and the others do not; all are answered 202."
//	@Param			contributions	body		Contributions		true	"The contributions."
//	@Success		202				{object}	Accepted			"All are durable and each will be counted exactly once."
//	@Failure		400				{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		413				{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415				{object}	problem.Document	"The Content-Type must be application/json, in UTF-8, without a Content-Encoding. Nothing was counted."
//	@Failure		422				{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		500				{object}	problem.Document	"Something is broken here. Whether this is counted is not known."
//	@Failure		503				{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The detail says whether anything may have been counted."
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-request	{"contributions":[{"contributor":"ada"},{"contributor":"grace"}]}
//	@x-example-202		{"accepted":2}
//	@x-example-400		{"errors":[{"pointer":"#/contributions/0","detail":"must be an object"}]}
//	@x-example-422		{"errors":[{"pointer":"#/contributions/0/contributor","detail":"required"}]}
//	@x-example-503		{"detail":"Too much is waiting to be published. Nothing was counted."}
//	@Router			/contributions/batch [post]
