package api

import _ "embed"

// document is the OpenAPI document of this API. `make generate` generates it from the annotations below, in the notation
// of github.com/swaggo/swag, by tools/openapi. ${…} is the value of a constant, and x-go-… a bound that is one.
//
//go:embed openapi.json
var document []byte

// title is the title of the page that shows it.
const title = "Accrue: query"

//	@title			Accrue: query
//	@version		1
//	@description	Accrue counts. This service answers queries: the totals of tags, from memory, a second or two after they were posted to the service `ingest`; contributors, and their recognitions.
//	@description
//	@description	**Every answer says how old it is.** `X-As-Of` and `as_of` are the time at which an answer was read, by the database's clock; `lag_ms` is its age in milliseconds when it was sent. Totals are exact: each increment that was answered 202 is in them once, after up to two windows.
//	@description
//	@description	**Ask as often as you like.** Totals are served from memory. Send the `ETag` of an answer in `If-None-Match`: as long as nothing has changed, the answer is a 304 without a body. Bodies of ${content.MinCompressed} bytes or more are compressed for clients that accept gzip. To receive changes instead of polling, open `/stats/stream`.
//	@description
//	@description	**Pages.** A page has up to `page_size` items; a larger number than a page may have is cut. If there are more items, the answer has a `next_page_token`, to be sent as `page_token` with the same other parameters, to any instance. Parameters that are unknown, repeated or wrong are refused with a problem document (RFC 9457) that names each.
//	@description
//	@description	**Lists as rows.** Totals, histories, contributors and recognitions are also available as CSV (RFC 4180, with a head) and NDJSON: `Accept: text/csv` or `Accept: application/x-ndjson`. The next page of rows is in the header `Link`, with `rel="next"`.
//	@description
//	@description	**From a browser.** Every path answers CORS preflight requests and lets pages of the origins in `CORS_ORIGINS` (all, by default) read the answers and the headers `Allow`, `ETag`, `Link`, `Retry-After` and `X-As-Of`.
//	@description
//	@description	What is not described here is answered 404 (no such path) or 405 (no such method, with the header `Allow`), as a problem document. `HEAD` is answered wherever `GET` is. The parts of the pages at `/` and `/docs`, and `/metrics`, are not described.
//	@tag.name			totals
//	@tag.description	The totals of tags.
//	@tag.name			contributors
//	@tag.description	Contributors, and their recognitions for reaching a tier.
//	@tag.name			badges
//	@tag.description	Numbers for pages elsewhere.
//	@tag.name			board
//	@tag.description	The page for people.
//	@tag.name			health
//	@tag.description	Whether the process runs, and whether it can do its work.
//	@tag.name			documentation
//	@tag.description	This description.
//	@x-header-retry-after	{"schema":{"minimum":1},"example":1}
//	@x-header-etag			{"schema":{"pattern":"^(W/)?\"[0-9a-f]{16}\"$"},"example":"\"1f2e3d4c5b6a7980\""}
//	@x-header-x-as-of		{"schema":{"format":"date-time"},"example":"2026-11-23T08:01:44.133Z"}

//	@Summary		All totals
//	@Description	Every tag with its total, or those of some names or with a prefix, as one object. Tags that were never counted are not there.
//	@ID				getStats
//	@Tags			totals
//	@Produce		json,text/csv,application/x-ndjson
//	@Param			names			query		string				false	"Only these tags, separated by commas: a hundred of the longest names, or more of shorter ones."	extensions(x-go-pattern=namesPattern,x-go-maxlength=namesLength)
//	@Param			prefix			query		string				false	"Only tags whose names begin so. Not with names."	extensions(x-excludes=names)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	Totals				"The totals."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"a parameter is wrong"
//	@Failure		406				{object}	problem.Document	"this resource is available as ${jsonType}, ${csvType} and ${linesType}"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the totals have not been read yet"
//	@Header			200,304			{string}	ETag				"Names these totals. It is the same for all instances, and weak for a compressed answer."
//	@Header			200,304			{string}	X-As-Of				"When the totals were read."
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"ballz":76,"foo":13}
//	@x-example-csv	"name,total\r\nballz,76\r\nfoo,13\r\n"
//	@x-example-ndjson	"{\"name\":\"ballz\",\"total\":76}\n{\"name\":\"foo\",\"total\":13}\n"
//	@x-example-400	{"errors":[{"parameter":"prefix","detail":"excludes names"}]}
//	@Router			/stats [get]

//	@Summary		Totals as they change
//	@Description	Server-sent events, for `EventSource` or any client: first `snapshot`, with all totals, then `changes`, with the new totals of the tags that have changed, at most one a second. The data of both is `{"as_of":"…","lag_ms":0,"totals":{"foo":13}}`.
//	@Description
//	@Description	With `names` or `prefix` the events have these tags only, and there is one when one of these changes.
//	@Description
//	@Description	A reader that reconnects with the id of its last event, as `EventSource` does by itself, receives what has changed since if the same instance answers and remembers that version, otherwise a snapshot. A slow reader receives fewer events with the same outcome. When nothing changes there is a comment every 15 seconds. The stream ends after 55 minutes, and when the server stops: reconnect.
//	@ID				getStatsStream
//	@Tags			totals
//	@Produce		text/event-stream
//	@Param			names			query		string				false	"Only these tags, separated by commas: a hundred of the longest names, or more of shorter ones."	extensions(x-go-pattern=namesPattern,x-go-maxlength=namesLength)
//	@Param			prefix			query		string				false	"Only tags whose names begin so. Not with names."	extensions(x-excludes=names)
//	@Param			Last-Event-ID	header		string				false	"The id of the last event that was read."
//	@Param			lastEventId		query		string				false	"The same, for readers that cannot set the header, which takes precedence."
//	@Success		200				{string}	string				"Events."
//	@Failure		400				{object}	problem.Document	"a parameter is wrong"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"too many open streams"
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	"retry: 2000\n\nevent: snapshot\nid: ZUPQJ5DB7QJVVXVJDSXKKLZRTD-42\ndata: {\"as_of\":\"2026-11-23T08:01:44.133Z\",\"lag_ms\":120,\"totals\":{\"ballz\":76,\"foo\":13}}\n\nevent: changes\nid: ZUPQJ5DB7QJVVXVJDSXKKLZRTD-43\ndata: {\"as_of\":\"2026-11-23T08:01:45.135Z\",\"lag_ms\":118,\"totals\":{\"foo\":17}}\n\n"
//	@x-example-400	{"errors":[{"parameter":"prefix","detail":"excludes names"}]}
//	@Router			/stats/stream [get]

//	@Summary		Tags, page by page
//	@Description	Tags with their totals, numbers of increments and times. Each page shows the latest totals. By name, every tag is on exactly one page. In the other orders a tag that is counted while you page through them moves, and may be on two pages or on none.
//	@Description
//	@Description	Movers: `-rate` puts first what grows fastest, by what was added per second over the last five whole minutes; `-change` what grew most, by how much more was added in the last 24 whole hours than in the 24 before. Both change once a minute, or an hour, and each tag has its `rate` or `change`.
//	@ID				getTags
//	@Tags			totals
//	@Produce		json
//	@Param			prefix			query		string				false	"Only tags whose names begin so."
//	@Param			order_by		query		string				false	"What the tags are sorted by; descending with a leading -. Equals are in the order of their names."	Enums(name,-name,total,-total,updated_at,-updated_at,rate,-rate,change,-change)	default(name)
//	@Param			page_size		query		integer				false	"The most tags that the page has; more than ${maxPageSize} are cut to that."															minimum(1)	extensions(x-go-default=pageSize)
//	@Param			page_token		query		string				false	"The next_page_token of the page before, with the same prefix and order_by."				format(page-token)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing on the page has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	TagPage				"A page."
//	@Success		304				"Nothing on the page has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"a parameter is wrong"
//	@Failure		429				{object}	problem.Document	"too many documents are being read"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the totals have not been read yet"
//	@Header			200,304			{string}	ETag				"Names what is on the page. It is weak: how old the page is does not count."
//	@Header			200,304			{string}	X-As-Of				"When the totals were read."
//	@Header			429,503			{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"tags":[{"name":"ballz","total":76,"increments":19,"updated_at":"2026-11-23T08:01:41.566Z"}],"next_page_token":"eyJsIjoidGFncyAtdG90YWwgYmEiLCJ2IjotNzYsImkiOiJiYWxseiJ9","as_of":"2026-11-23T08:01:44.133Z","lag_ms":120}
//	@x-example-400	{"errors":[{"parameter":"page_size","detail":"must be a positive integer; a page has 1000 items at most"}]}
//	@Router			/tags [get]

//	@Summary		One tag
//	@Description	A tag with its total, its number of increments, and when it was last counted.
//	@ID				getTag
//	@Tags			totals
//	@Produce		json
//	@Param			name			path		string				true	"The tag's name. No other text is the name of a tag."	extensions(x-go-pattern=increment.NamePattern,x-go-minlength=increment.MinNameLength,x-go-maxlength=increment.MaxNameLength,x-example=foo)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	TagNow				"The tag."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"this resource has no parameters"
//	@Failure		404				{object}	problem.Document	"there is no tag of this name"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the totals have not been read yet"
//	@Header			200,304			{string}	ETag				"Names the tag as it is. It is weak: how old the answer is does not count."
//	@Header			200,304			{string}	X-As-Of				"When the totals were read."
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"name":"foo","total":13,"increments":2,"updated_at":"2026-11-23T08:01:41.566Z","as_of":"2026-11-23T08:01:44.133Z","lag_ms":120}
//	@x-example-400	{"errors":[{"parameter":"prefix","detail":"is unknown"}]}
//	@Router			/tags/{name} [get]

//	@Summary		What was counted
//	@Description	How much the totals of all tags changed together in each minute, hour or day, exactly; or those of the tags of some names, and then also each by itself; or those of the tags that have a prefix. Of everything, the sums of past periods are kept in memory. The last periods are still open: what is before `complete_to` does not change any more. `from` and `to` are moved to the beginnings of periods, and into what is kept: minutes of the last day, hours and whole days of the last 30 days.
//	@ID				getHistory
//	@Tags			totals
//	@Produce		json,text/csv,application/x-ndjson
//	@Param			names			query		string				false	"Only these tags, separated by commas: a hundred of the longest names, or more of shorter ones. One that was never counted has zeros."	extensions(x-go-pattern=namesPattern,x-go-maxlength=namesLength)
//	@Param			prefix			query		string				false	"Only tags whose names begin so. Not with names."	extensions(x-excludes=names)
//	@Param			resolution		query		string				false	"The length of a period."										Enums(minute,hour,day)	default(minute)
//	@Param			time_zone		query		string				false	"The time zone that days are of, by its name in the IANA database: by default UTC. A day begins with the first hour of UTC that begins in it."	format(time-zone)
//	@Param			from			query		string				false	"When the first period begins, before to. By default an hour of minutes, a day of hours, or all days, before to."	format(date-time)	extensions(x-before=to)
//	@Param			to				query		string				false	"When the last period ends. By default with the open period."	format(date-time)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	SumHistory			"The changes."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"a parameter is wrong"
//	@Failure		406				{object}	problem.Document	"this resource is available as ${jsonType}, ${csvType} and ${linesType}"
//	@Failure		429				{object}	problem.Document	"too many documents are being read"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the store does not answer"
//	@Header			200,304			{string}	ETag				"Names these changes. It is weak: how old the answer is does not count."
//	@Header			200,304			{string}	X-As-Of				"When the totals were read."
//	@Header			429,503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"resolution":"hour","time_zone":"UTC","from":"2026-11-23T06:00:00Z","to":"2026-11-23T09:00:00Z","complete_to":"2026-11-23T08:00:00Z","changes":[76,9,4],"total":89,"increments":22,"tags":[{"name":"ballz","changes":[76,0,0]},{"name":"foo","changes":[0,9,4]}],"as_of":"2026-11-23T08:01:44.133Z","lag_ms":120}
//	@x-example-csv	"begin,change\r\n2026-11-23T07:00:00Z,9\r\n2026-11-23T08:00:00Z,4\r\n"
//	@x-example-ndjson	"{\"begin\":\"2026-11-23T07:00:00Z\",\"change\":9}\n{\"begin\":\"2026-11-23T08:00:00Z\",\"change\":4}\n"
//	@x-example-400	{"errors":[{"parameter":"from","detail":"must be before to"}]}
//	@Router			/history [get]

//	@Summary		What a tag was counted up
//	@Description	How much the tag's total changed in each minute, hour or day, exactly: the changes of all periods add up to the total. The last periods are still open: what is before `complete_to` does not change any more. `from` and `to` are moved to the beginnings of periods, and into what is kept: minutes of the last day, hours and whole days of the last 30 days.
//	@ID				getTagHistory
//	@Tags			totals
//	@Produce		json,text/csv,application/x-ndjson
//	@Param			name			path		string				true	"The tag's name. No other text is the name of a tag."			extensions(x-go-pattern=increment.NamePattern,x-go-minlength=increment.MinNameLength,x-go-maxlength=increment.MaxNameLength,x-example=foo)
//	@Param			resolution		query		string				false	"The length of a period."										Enums(minute,hour,day)	default(minute)
//	@Param			time_zone		query		string				false	"The time zone that days are of, by its name in the IANA database: by default UTC. A day begins with the first hour of UTC that begins in it."	format(time-zone)
//	@Param			from			query		string				false	"When the first period begins, before to. By default an hour of minutes, a day of hours, or all days, before to."	format(date-time)	extensions(x-before=to)
//	@Param			to				query		string				false	"When the last period ends. By default with the open period."	format(date-time)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	TagHistory			"The changes."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"a parameter is wrong"
//	@Failure		404				{object}	problem.Document	"there is no tag of this name"
//	@Failure		406				{object}	problem.Document	"this resource is available as ${jsonType}, ${csvType} and ${linesType}"
//	@Failure		429				{object}	problem.Document	"too many documents are being read"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the store does not answer"
//	@Header			200,304			{string}	ETag				"Names these changes. It is weak: how old the answer is does not count."
//	@Header			200,304			{string}	X-As-Of				"When the totals were read."
//	@Header			429,503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"name":"foo","resolution":"hour","time_zone":"UTC","from":"2026-11-23T06:00:00Z","to":"2026-11-23T09:00:00Z","complete_to":"2026-11-23T08:00:00Z","changes":[0,9,4],"total":13,"as_of":"2026-11-23T08:01:44.133Z","lag_ms":120}
//	@x-example-csv	"name,begin,change\r\nfoo,2026-11-23T07:00:00Z,9\r\nfoo,2026-11-23T08:00:00Z,4\r\n"
//	@x-example-ndjson	"{\"name\":\"foo\",\"begin\":\"2026-11-23T07:00:00Z\",\"change\":9}\n{\"name\":\"foo\",\"begin\":\"2026-11-23T08:00:00Z\",\"change\":4}\n"
//	@x-example-400	{"errors":[{"parameter":"from","detail":"must be before to"}]}
//	@Router			/tags/{name}/history [get]

//	@Summary		Totals as metrics
//	@Description	The biggest totals, a thousand unless `METRICS_TAGS` says otherwise, as a metric for Prometheus, `accrue_total{tag="foo"}`, and `accrue_totals_left_out`, how many other tags there are. In the text format of OpenMetrics, whatever is asked for. The metrics of the service itself are at `/metrics`.
//	@ID				getTotalsMetrics
//	@Tags			totals
//	@Produce		application/openmetrics-text
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{string}	string				"The metrics."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"this resource has no parameters"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the totals have not been read yet"
//	@Header			200,304			{string}	ETag				"Names these totals. It is weak for a compressed answer."
//	@Header			200,304			{string}	X-As-Of				"When the totals were read."
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	"# TYPE accrue counter\n# HELP accrue Sum of the values of a tag's increments.\naccrue_total{tag=\"foo\"} 13\n# TYPE accrue_totals_left_out gauge\n# HELP accrue_totals_left_out Tags beyond the 1000 biggest, which are not here.\naccrue_totals_left_out 0\n# EOF\n"
//	@x-example-400	{"errors":[{"parameter":"prefix","detail":"is unknown"}]}
//	@Router			/metrics/totals [get]

//	@Summary		Contributors, page by page
//	@Description	Contributors with their numbers of contributions and the highest tier for which they were recognized. Pages are read from the database: identical requests of one second share a read, and the documents that are read per second are limited.
//	@ID				getContributors
//	@Tags			contributors
//	@Produce		json,text/csv,application/x-ndjson
//	@Param			order_by	query		string				false	"What the contributors are sorted by; descending with a leading -."	Enums(id,contributions,-contributions)	default(id)
//	@Param			prefix		query		string				false	"Only contributors whose ids begin so. Only in the order by id."	extensions(x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength,x-excludes=order_by)
//	@Param			page_size	query		integer				false	"The most contributors that the page has; more than ${maxPageSize} are cut to that."							minimum(1)	extensions(x-go-default=pageSize)
//	@Param			page_token	query		string				false	"The next_page_token of the page before, with the same order_by and prefix."	format(page-token)
//	@Param			If-None-Match	header	string	false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200			{object}	contributorPage		"A page."
//	@Success		304			"Nothing has changed since the answer with the given ETag."
//	@Failure		400			{object}	problem.Document	"a parameter is wrong"
//	@Failure		406				{object}	problem.Document	"this resource is available as ${jsonType}, ${csvType} and ${linesType}"
//	@Failure		429			{object}	problem.Document	"too many documents are being read"
//	@Failure		500			{object}	problem.Document	"the answer could not be made"
//	@Failure		503			{object}	problem.Document	"the store does not answer"
//	@Header			200,304		{string}	ETag	"Names the content. It is weak: the age of the answer does not count."
//	@Header			200,304		{string}	X-As-Of	"When the answer was read."
//	@Header			429,503			{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"contributors":[{"id":"ada","contributions":4,"recognized_tier":3,"updated_at":"2026-11-23T08:01:41.566Z"}],"next_page_token":"eyJsIjoiY29udHJpYnV0b3JzIGlkIiwiaSI6ImFkYSJ9","as_of":"2026-11-23T08:01:44.133Z","lag_ms":3}
//	@x-example-csv	"id,contributions,recognized_tier,updated_at\r\nada,4,3,2026-11-23T08:01:41.566Z\r\n"
//	@x-example-ndjson	"{\"id\":\"ada\",\"contributions\":4,\"recognized_tier\":3,\"updated_at\":\"2026-11-23T08:01:41.566Z\"}\n"
//	@x-example-400	{"errors":[{"parameter":"order_by","detail":"must be one of id, contributions, -contributions"}]}
//	@Router			/contributors [get]

//	@Summary		One contributor
//	@Description	A contributor with their number of contributions, and every tier that they were recognized for, with its time.
//	@ID				getContributor
//	@Tags			contributors
//	@Produce		json
//	@Param			id	path		string				true	"The contributor's id, percent-encoded: an id may hold a slash."	extensions(x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength,x-example=ada)
//	@Param			If-None-Match	header	string	false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200	{object}	standing			"The contributor."
//	@Success		304			"Nothing has changed since the answer with the given ETag."
//	@Failure		400	{object}	problem.Document	"this resource has no parameters"
//	@Failure		404	{object}	problem.Document	"there is no contributor with this id"
//	@Failure		429			{object}	problem.Document	"too many documents are being read"
//	@Failure		500	{object}	problem.Document	"the answer could not be made"
//	@Failure		503	{object}	problem.Document	"the store does not answer"
//	@Header			200,304		{string}	ETag	"Names the content. It is weak: the age of the answer does not count."
//	@Header			200,304		{string}	X-As-Of	"When the answer was read."
//	@Header			429,503	{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"id":"ada","contributions":4,"recognized_tier":3,"updated_at":"2026-11-23T08:01:41.566Z","recognitions":[{"tier":3,"contributions":3,"recognized_at":"2026-11-23T08:01:42.053Z"}],"as_of":"2026-11-23T08:01:44.133Z","lag_ms":3}
//	@x-example-400	{"errors":[{"parameter":"page_size","detail":"is unknown"}]}
//	@Router			/contributors/{id} [get]

//	@Summary		Recognitions, page by page
//	@Description	Recognitions, the latest first: all of them, or those for a tier, since a time, or of a contributor. Identical requests of one second share a read of the database, and a page reads one document more than it has. Every recognition is also published to Pub/Sub as an event (CloudEvents 1.0): subscribe to receive all of them.
//	@ID				getRecognitions
//	@Tags			contributors
//	@Produce		json,text/csv,application/x-ndjson
//	@Param			tier		query		integer				false	"Only those that are for this number of contributions."		minimum(1)
//	@Param			since		query		string				false	"Only those that were made at this time or later."	format(date-time)
//	@Param			contributor	query		string				false	"Only those of the contributor with this id."	extensions(x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength)
//	@Param			page_size	query		integer				false	"The most recognitions that the page has; more than ${maxRecognitions} are cut to that."	minimum(1)	extensions(x-go-default=defaultRecognitions)
//	@Param			page_token	query		string				false	"The next_page_token of the page before, with the same tier, since and contributor."	format(page-token)
//	@Param			If-None-Match	header	string	false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200			{object}	recognitionPage	"A page."
//	@Success		304			"Nothing has changed since the answer with the given ETag."
//	@Failure		400			{object}	problem.Document	"a parameter is wrong"
//	@Failure		406				{object}	problem.Document	"this resource is available as ${jsonType}, ${csvType} and ${linesType}"
//	@Failure		429			{object}	problem.Document	"too many documents are being read"
//	@Failure		500			{object}	problem.Document	"the answer could not be made"
//	@Failure		503			{object}	problem.Document	"the store does not answer"
//	@Header			200,304		{string}	ETag	"Names the content. It is weak: the age of the answer does not count."
//	@Header			200,304		{string}	X-As-Of	"When the answer was read."
//	@Header			429,503			{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"recognitions":[{"contributor":"ada","tier":3,"contributions":3,"recognized_at":"2026-11-23T08:01:42.053Z"}],"next_page_token":"eyJsIjoicmVjb2duaXRpb25zIiwidiI6MTc5NTQyMDkwMjA1MzAwMCwiaSI6IjM6YWRhIn0","as_of":"2026-11-23T08:01:44.133Z","lag_ms":3}
//	@x-example-csv	"contributor,tier,contributions,recognized_at\r\nada,3,3,2026-11-23T08:01:42.053Z\r\n"
//	@x-example-ndjson	"{\"contributor\":\"ada\",\"tier\":3,\"contributions\":3,\"recognized_at\":\"2026-11-23T08:01:42.053Z\"}\n"
//	@x-example-400	{"errors":[{"parameter":"tier","detail":"must be a positive integer"}]}
//	@Router			/recognitions [get]

//	@Summary		The badge of a tag
//	@Description	The total of a tag as a picture (`.svg`), or as the endpoint badge of shields.io reads it (`.json`). It may be a minute old. A tag that was never counted has a badge of 0.
//	@ID				getTagBadge
//	@Tags			badges
//	@Produce		json,image/svg+xml
//	@Param			badge			path		string				true	"The name of the tag, and .svg or .json."	extensions(x-go-pattern=badgePattern,x-example=foo.svg)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	badge				"The badge."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"this resource has no parameters"
//	@Failure		404				{object}	problem.Document	"no tag can have this badge"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the totals have not been read yet"
//	@Header			200,304			{string}	ETag				"Names the badge. It is weak for a compressed answer."
//	@Header			503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"schemaVersion":1,"label":"foo","message":"1,234","color":"#0b6b3a"}
//	@x-example-picture	"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"86\" height=\"20\">…</svg>"
//	@x-example-400	{"errors":[{"parameter":"style","detail":"is unknown"}]}
//	@Router			/badges/{badge} [get]

//	@Summary		The badge of a contributor
//	@Description	The number of contributions of a contributor, likewise. One who never contributed has a badge of 0.
//	@ID				getContributorBadge
//	@Tags			badges
//	@Produce		json,image/svg+xml
//	@Param			badge			path		string				true	"The id of the contributor, percent-encoded, and .svg or .json."	extensions(x-go-pattern=contributorBadgePattern,x-go-maxlength=contributorBadgeLength,x-example=ada.svg)
//	@Param			If-None-Match	header		string				false	"The ETag of an earlier answer: if nothing has changed since, the answer is a 304 without a body."
//	@Success		200				{object}	badge				"The badge."
//	@Success		304				"Nothing has changed since the answer with the given ETag."
//	@Failure		400				{object}	problem.Document	"this resource has no parameters"
//	@Failure		404				{object}	problem.Document	"no contributor can have this badge"
//	@Failure		429				{object}	problem.Document	"too many documents are being read"
//	@Failure		500				{object}	problem.Document	"the answer could not be made"
//	@Failure		503				{object}	problem.Document	"the store does not answer"
//	@Header			200,304			{string}	ETag				"Names the badge. It is weak for a compressed answer."
//	@Header			429,503				{integer}	Retry-After			"After how many seconds to try again."
//	@x-example-200	{"schemaVersion":1,"label":"ada","message":"1,234","color":"#0b6b3a"}
//	@x-example-picture	"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"86\" height=\"20\">…</svg>"
//	@x-example-400	{"errors":[{"parameter":"style","detail":"is unknown"}]}
//	@Router			/badges/contributors/{badge} [get]

//	@Summary		The board
//	@Description	A page for people: every tag with its total, its rate and its last half hour, contributors and the latest recognitions, live.
//	@ID				getBoard
//	@Tags			board
//	@Produce		html
//	@Param			If-None-Match	header	string	false	"The ETag of an earlier answer: if the page is still the same, the answer is a 304 without a body."
//	@Success		200				{string}	string	"The page."
//	@Success		304				"The page is the one of the given ETag."
//	@Failure		431	"The header of the request is larger than 64 KiB."
//	@Header			200,304			{string}	ETag	"Names this version of the page."
//	@x-example-200	"<!doctype html>\n<html lang=\"en\">…</html>"
//	@Router			/ [get]
