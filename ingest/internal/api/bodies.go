package api

// Increment is an increment as the OpenAPI document describes it. Requests are not decoded into it: items.go reads the same
// fields, and the tests of e2e/contract hold the service to the document.
//
//	@Description	An increment.
type Increment struct {
	// The name of the tag: a to z and _.
	Name string `json:"name" validate:"required" example:"foo" extensions:"x-go-pattern=increment.NamePattern,x-go-minlength=increment.MinNameLength,x-go-maxlength=increment.MaxNameLength"`
	// The value that is added to the total, an integer without a fraction or an exponent.
	Value int `json:"value" validate:"required" example:"4" extensions:"x-go-minimum=increment.MinValue,x-go-maximum=increment.MaxValue"`
	// The contributor whose contribution it is, if any: text without control characters. Two ids that differ in case are two contributors.
	Contributor string `json:"contributor,omitempty" example:"ada" extensions:"x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength"`
	// Its idempotency key, instead of one made from the header Idempotency-Key. Of items with the same key within the horizon, the first counts.
	ID string `json:"id,omitempty" example:"order-17" extensions:"x-go-pattern=increment.KeyPattern,x-go-minlength=increment.MinKeyLength,x-go-maxlength=increment.MaxKeyLength"`
} //	@name	Increment

// Increments is a batch of increments.
//
//	@Description	A batch of increments.
type Increments struct {
	// The increments. If one of them is wrong, none is counted.
	Increments []Increment `json:"increments" validate:"required" extensions:"x-go-minitems=increment.MinBatch,x-go-maxitems=increment.MaxBatch"`
} //	@name	Increments

// Contribution is a contribution as the OpenAPI document describes it.
//
//	@Description	A contribution.
type Contribution struct {
	// The contributor: text without control characters. Two ids that differ in case are two contributors.
	Contributor string `json:"contributor" validate:"required" example:"ada" extensions:"x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength"`
	// Its idempotency key, instead of one made from the header Idempotency-Key. Of items with the same key within the horizon, the first counts.
	ID string `json:"id,omitempty" example:"order-17" extensions:"x-go-pattern=increment.KeyPattern,x-go-minlength=increment.MinKeyLength,x-go-maxlength=increment.MaxKeyLength"`
} //	@name	Contribution

// Contributions is a batch of contributions.
//
//	@Description	A batch of contributions.
type Contributions struct {
	// The contributions. If one of them is wrong, none is counted.
	Contributions []Contribution `json:"contributions" validate:"required" extensions:"x-go-minitems=increment.MinBatch,x-go-maxitems=increment.MaxBatch"`
} //	@name	Contributions

// Accepted is the answer to a request whose items are durable.
//
//	@Description	The answer to a request whose items are durable.
type Accepted struct {
	// How many items were accepted: all of them.
	Accepted int `json:"accepted" validate:"required" example:"1" extensions:"x-go-minimum=increment.MinBatch,x-go-maximum=increment.MaxBatch"`
	// How many of them have an idempotency key that this instance accepted before, in the last half minute or minute. They do
	// not count again. Absent if it knows of none; another instance may have accepted the key.
	Repeated int `json:"repeated,omitempty" example:"1" extensions:"x-go-minimum=increment.MinBatch,x-go-maximum=increment.MaxBatch"`
} //	@name	Accepted
