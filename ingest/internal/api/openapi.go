package api

import _ "embed"

// document is the OpenAPI document of this API. tools/openapi makes it from the annotations below, in the notation of
// github.com/swaggo/swag; `make generate` runs it. They are here and not at the handlers because one handler serves four
// routes. ${…} is the value of a constant, and x-go-… is a bound that is a constant.
//
//go:embed openapi.json
var document []byte

// title is the title of the page that shows the document.
const title = "Accrue: ingest"

//	@title			Accrue: ingest
//	@version		1
//	@description	Accrue is a counter. Producers post small increments at high rates; dashboards read exact totals from the service `query` a second or two later.
//	@description
//	@description	**202 means durable.** A request is answered 202 when all its items are stored in Pub/Sub, and not before. Each item is then counted exactly once, through crashes, retries and duplicate deliveries.
//	@description
//	@description	**Refusals are precise.** A body that breaks a rule changes nothing, and the answer is a problem document (RFC 9457) that points to every fault of every item. Unknown fields, repeated fields, and numbers written as `4.0`, `4e0` or `"4"` are refused, too. Query parameters are ignored. The `type` of a problem is the address of its description.
//	@description
//	@description	**Retries.** In the problem document of a post, `counted` is `no` if nothing was counted: the request can be repeated as it is. It is `unknown` if the request may have been counted, as is a request without an answer: repeated without a key, it may count twice. With an `Idempotency-Key`, or an `id` in each item, a request can be repeated until it is answered 202: it counts once.
//	@description
//	@description	**Compression.** A body may be sent with `Content-Encoding: gzip`. The limit on its size applies before and after decompression.
//	@description
//	@description	**Browsers.** Every path answers CORS preflight requests and lets pages of the origins in `CORS_ORIGINS` (all, by default) post, and read the answers and the headers `Allow`, `ETag`, `Retry-After` and `X-As-Of`. A body of the type `text/plain` is read as JSON, for `navigator.sendBeacon`.
//	@description
//	@description	Other paths are answered 404, and other methods 405 with the header `Allow`, as problem documents. `HEAD` is answered wherever `GET` is. The parts of the page at `/docs`, and `/metrics`, are not described here.
//	@tag.name			increments
//	@tag.description	The name of a tag, and a value that is added to its total.
//	@tag.name			contributions
//	@tag.description	Each contribution adds one for its contributor, who is recognized when they reach a tier.
//	@tag.name			health
//	@tag.description	Whether the process runs, and whether it can do its work.
//	@tag.name			documentation
//	@tag.description	This description.
//	@x-header-retry-after	{"schema":{"minimum":1},"example":1}
//	@x-header-accept-post	{"example":"application/json, text/plain"}
//	@x-header-accept-encoding	{"example":"gzip, identity"}
//	@x-header-idempotency-key	{"schema":{"x-go-pattern":"keyHeaderPattern"}}
//	@x-header-etag			{"schema":{"pattern":"^(W/)?\"[0-9a-f]{16}\"$"},"example":"\"1f2e3d4c5b6a7980\""}
//	@x-problem-400			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#malformed-body","counted":"no"}
//	@x-problem-403			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#origin-not-allowed","counted":"no"}
//	@x-problem-408			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#slow-body","counted":"no"}
//	@x-problem-413			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#body-too-large","counted":"no"}
//	@x-problem-415			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#unsupported-media-type","counted":"no"}
//	@x-problem-422			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#invalid-items","counted":"no"}
//	@x-problem-429			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#too-many-new-tags","counted":"no","detail":"The body has 2 tags that this server has not seen, and it takes 1000 new ones a minute. Nothing was counted."}
//	@x-problem-500			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#internal-error","counted":"unknown","detail":"An internal error occurred."}
//	@x-problem-503			{"type":"https://github.com/accrue/accrue/blob/main/docs/problems.md#overloaded","counted":"no","detail":"Too much is waiting to be published. Nothing was counted."}

//	@Summary		Count one increment
//	@Description	Adds `value` to the total of the tag `name`. With a `contributor`, it is also a contribution.
//	@Description
//	@Description	Post many increments at once with `POST /increments/batch`: it is some fifty times as fast.
//	@ID				postIncrement
//	@Tags			increments
//	@Accept			json,plain
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this request for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. Of requests with the same key within the horizon (`IDEMPOTENCY_HORIZON`), the first counts and the others do not; all are answered 202. An `id` in the item replaces it."
//	@Param			increment	body		Increment			true	"The increment."
//	@Success		202			{object}	Accepted			"The increment is durable and will be counted exactly once."
//	@Failure		400			{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		403			{object}	problem.Document	"Pages of this origin may not post here. Nothing was counted."
//	@Failure		408			{object}	problem.Document	"The body took too long. Nothing was counted."
//	@Failure		413			{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415			{object}	problem.Document	"The Content-Type must be application/json, text/plain, or for a batch also application/x-ndjson, in UTF-8. Nothing was counted."
//	@Header			415			{string}	Accept-Post			"The media types that this path takes."
//	@Header			415			{string}	Accept-Encoding		"The content encodings that this path takes."
//	@Failure		422			{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		429			{object}	problem.Document	"The body has too many new tags. Nothing was counted."
//	@Failure		500			{object}	problem.Document	"An internal error occurred. The request may have been counted."
//	@Failure		503			{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The member `counted` says whether the request may have been counted."
//	@Header			429,503		{integer}	Retry-After			"The number of seconds to wait before a retry."
//	@x-example-request	{"name":"foo","value":4,"contributor":"ada"}
//	@x-example-202		{"accepted":1}
//	@x-example-400		{"errors":[{"pointer":"#/value","detail":"must be an integer, without a fraction or an exponent"}]}
//	@x-example-422		{"errors":[{"pointer":"#/name","detail":"must be 3 to 15 characters from a to z and _"},{"pointer":"#/value","detail":"must be an integer from 1 to 9"}]}
//	@Router			/increments [post]

//	@Summary		Count many increments
//	@Description	Counts 1 to ${increment.MaxBatch} increments. If one of them is wrong, none is counted, and the answer points to every fault of every item.
//	@Description
//	@Description	Tags and contributors may repeat in a batch; each item counts. The increments of a batch may appear in `/stats` at different moments.
//	@Description
//	@Description	With the Content-Type `application/x-ndjson`, the body has an item on each line, without a list around them, and pointers in problem documents count the items from 0: `#/3/value`.
//	@ID				postIncrements
//	@Tags			increments
//	@Accept			json,application/x-ndjson,plain
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this batch for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. The key of each item without an `id` is made of it and the item's index: send the same items in the same order. Of items with the same key within the horizon (`IDEMPOTENCY_HORIZON`), the first counts and the others do not; all are answered 202."
//	@Param			increments	body		Increments			true	"The increments."
//	@Success		202			{object}	Accepted			"All increments are durable, and each will be counted exactly once."
//	@Failure		400			{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		403			{object}	problem.Document	"Pages of this origin may not post here. Nothing was counted."
//	@Failure		408			{object}	problem.Document	"The body took too long. Nothing was counted."
//	@Failure		413			{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415			{object}	problem.Document	"The Content-Type must be application/json, text/plain, or for a batch also application/x-ndjson, in UTF-8. Nothing was counted."
//	@Header			415			{string}	Accept-Post			"The media types that this path takes."
//	@Header			415			{string}	Accept-Encoding		"The content encodings that this path takes."
//	@Failure		422			{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		429			{object}	problem.Document	"The body has too many new tags. Nothing was counted."
//	@Failure		500			{object}	problem.Document	"An internal error occurred. The request may have been counted."
//	@Failure		503			{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The member `counted` says whether the request may have been counted."
//	@Header			429,503		{integer}	Retry-After			"The number of seconds to wait before a retry."
//	@x-example-request	{"increments":[{"name":"foo","value":9},{"name":"ballz","value":7,"contributor":"ada"}]}
//	@x-example-lines	"{\"name\":\"foo\",\"value\":9}\n{\"name\":\"ballz\",\"value\":7,\"contributor\":\"ada\"}\n"
//	@x-example-202		{"accepted":2}
//	@x-example-400		{"errors":[{"pointer":"#/increments/1/values","detail":"unknown field"}]}
//	@x-example-422		{"errors":[{"pointer":"#/increments/1/value","detail":"must be an integer from 1 to 9"}]}
//	@Router			/increments/batch [post]

//	@Summary		Count one contribution
//	@Description	Counts a contribution of the contributor, and no tag. The first contribution creates the contributor. At each tier (`RECOGNITION_TIERS`, by default 3 contributions), the contributor is recognized once, by an event to Pub/Sub.
//	@ID				postContribution
//	@Tags			contributions
//	@Accept			json,plain
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this request for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. Of requests with the same key within the horizon (`IDEMPOTENCY_HORIZON`), the first counts and the others do not; all are answered 202. An `id` in the item replaces it."
//	@Param			contribution	body		Contribution			true	"The contribution."
//	@Success		202			{object}	Accepted			"The contribution is durable and will be counted exactly once."
//	@Failure		400			{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		403			{object}	problem.Document	"Pages of this origin may not post here. Nothing was counted."
//	@Failure		408			{object}	problem.Document	"The body took too long. Nothing was counted."
//	@Failure		413			{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415			{object}	problem.Document	"The Content-Type must be application/json, text/plain, or for a batch also application/x-ndjson, in UTF-8. Nothing was counted."
//	@Header			415			{string}	Accept-Post			"The media types that this path takes."
//	@Header			415			{string}	Accept-Encoding		"The content encodings that this path takes."
//	@Failure		422			{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		500			{object}	problem.Document	"An internal error occurred. The request may have been counted."
//	@Failure		503			{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The member `counted` says whether the request may have been counted."
//	@Header			503			{integer}	Retry-After			"The number of seconds to wait before a retry."
//	@x-example-request	{"contributor":"ada"}
//	@x-example-202		{"accepted":1}
//	@x-example-400		{"errors":[{"pointer":"#/contributor","detail":"must be a string"}]}
//	@x-example-422		{"errors":[{"pointer":"#/contributor","detail":"must be 1 to 128 characters, without control characters"}]}
//	@Router			/contributions [post]

//	@Summary		Count many contributions
//	@Description	Counts 1 to ${increment.MaxBatch} contributions. If one of them is wrong, none is counted, and the answer points to every fault of every item. Contributors may repeat; each item counts.
//	@Description
//	@Description	With the Content-Type `application/x-ndjson`, the body has an item on each line, without a list around them, and pointers in problem documents count the items from 0: `#/3/value`.
//	@ID				postContributions
//	@Tags			contributions
//	@Accept			json,application/x-ndjson,plain
//	@Produce		json
//	@Param			Idempotency-Key	header	string	false	"Names this batch for retries: 1 to ${increment.MaxKeyLength} visible ASCII characters, bare or in double quotes. The key of each item without an `id` is made of it and the item's index: send the same items in the same order. Of items with the same key within the horizon (`IDEMPOTENCY_HORIZON`), the first counts and the others do not; all are answered 202."
//	@Param			contributions	body		Contributions			true	"The contributions."
//	@Success		202			{object}	Accepted			"All contributions are durable, and each will be counted exactly once."
//	@Failure		400			{object}	problem.Document	"The body is malformed. Nothing was counted."
//	@Failure		403			{object}	problem.Document	"Pages of this origin may not post here. Nothing was counted."
//	@Failure		408			{object}	problem.Document	"The body took too long. Nothing was counted."
//	@Failure		413			{object}	problem.Document	"The body is larger than ${maxBody} bytes. Nothing was counted."
//	@Failure		415			{object}	problem.Document	"The Content-Type must be application/json, text/plain, or for a batch also application/x-ndjson, in UTF-8. Nothing was counted."
//	@Header			415			{string}	Accept-Post			"The media types that this path takes."
//	@Header			415			{string}	Accept-Encoding		"The content encodings that this path takes."
//	@Failure		422			{object}	problem.Document	"The body breaks a rule. Nothing was counted."
//	@Failure		500			{object}	problem.Document	"An internal error occurred. The request may have been counted."
//	@Failure		503			{object}	problem.Document	"Pub/Sub does not answer, too much is waiting, or this instance is stopping. The member `counted` says whether the request may have been counted."
//	@Header			503			{integer}	Retry-After			"The number of seconds to wait before a retry."
//	@x-example-request	{"contributions":[{"contributor":"ada"},{"contributor":"grace"}]}
//	@x-example-lines	"{\"contributor\":\"ada\"}\n{\"contributor\":\"grace\"}\n"
//	@x-example-202		{"accepted":2}
//	@x-example-400		{"errors":[{"pointer":"#/contributions/0","detail":"must be an object"}]}
//	@x-example-422		{"errors":[{"pointer":"#/contributions/0/contributor","detail":"required"}]}
//	@Router			/contributions/batch [post]
