package api

// Increment is an increment as the document describes it. Requests are not decoded into it: items reads the same fields,
// and a test compares the two.
//
//	@Description	An increment.
type Increment struct {
	// The tag that is counted: a to z and _ alone.
	Name string `json:"name" validate:"required" example:"foo" extensions:"x-go-pattern=increment.NamePattern,x-go-minlength=increment.MinNameLength,x-go-maxlength=increment.MaxNameLength"`
	// How much it is counted up, as an integer without a fraction or an exponent.
	Value int `json:"value" validate:"required" example:"4" extensions:"x-go-minimum=increment.MinValue,x-go-maximum=increment.MaxValue"`
	// Whose contribution it is, if anybody's: any text without control characters. Two ids that differ in case are two contributors.
	Contributor string `json:"contributor,omitempty" example:"ada" extensions:"x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength"`
	// Its idempotency key, in place of one made from the header Idempotency-Key: of items with the same key within the horizon the first counts.
	ID string `json:"id,omitempty" example:"order-17" extensions:"x-go-pattern=increment.KeyPattern,x-go-minlength=increment.MinKeyLength,x-go-maxlength=increment.MaxKeyLength"`
} //	@name	Increment

// Increments is a batch of increments.
//
//	@Description	A batch of increments.
type Increments struct {
	// The increments. All are counted or, if one of them is wrong, none.
	Increments []Increment `json:"increments" validate:"required" extensions:"x-go-minitems=increment.MinBatch,x-go-maxitems=increment.MaxBatch"`
} //	@name	Increments

// Contribution is a contribution as the document describes it.
//
//	@Description	A contribution.
type Contribution struct {
	// Who contributes: any text without control characters. Two ids that differ in case are two contributors.
	Contributor string `json:"contributor" validate:"required" example:"ada" extensions:"x-go-pattern=increment.ContributorPattern,x-go-minlength=increment.MinContributorLength,x-go-maxlength=increment.MaxContributorLength"`
	// Its idempotency key, in place of one made from the header Idempotency-Key: of items with the same key within the horizon the first counts.
	ID string `json:"id,omitempty" example:"order-17" extensions:"x-go-pattern=increment.KeyPattern,x-go-minlength=increment.MinKeyLength,x-go-maxlength=increment.MaxKeyLength"`
} //	@name	Contribution

// Contributions is a batch of contributions.
//
//	@Description	A batch of contributions.
type Contributions struct {
	// The contributions. All are counted or, if one of them is wrong, none.
	Contributions []Contribution `json:"contributions" validate:"required" extensions:"x-go-minitems=increment.MinBatch,x-go-maxitems=increment.MaxBatch"`
} //	@name	Contributions

// Accepted is the answer to what is durable.
//
//	@Description	What is durable.
type Accepted struct {
	// How many items were accepted: all of them.
	Accepted int `json:"accepted" validate:"required" example:"1" extensions:"x-go-minimum=increment.MinBatch,x-go-maximum=increment.MaxBatch"`
} //	@name	Accepted
