package api

// What is answered from the view is written by hand, in the forms below: a test reads every answer by the document.

// Totals are the totals of all tags, by name.
//
//	@Description	The totals of all tags, by name.
type Totals map[string]int64 //	@name	Totals

// Tag is a tag in a list.
//
//	@Description	A tag.
type Tag struct {
	// The tag's name.
	Name string `json:"name" validate:"required" example:"foo" extensions:"x-go-pattern=increment.NamePattern,x-go-minlength=increment.MinNameLength,x-go-maxlength=increment.MaxNameLength"`
	// The sum of the values of its increments.
	Total int64 `json:"total" validate:"required" example:"13" minimum:"1"`
	// How many increments it has had.
	Increments int64 `json:"increments" validate:"required" example:"2" minimum:"1"`
	// When it was last counted, by the database's clock.
	UpdatedAt string `json:"updated_at" validate:"required" format:"date-time" example:"2026-11-23T08:01:41.566Z"`
} //	@name	Tag

// TagNow is a tag as an answer by itself.
//
//	@Description	A tag, and how old the answer is.
type TagNow struct {
	Tag
	freshness
} //	@name	TagNow

// TagPage is a page of tags.
//
//	@Description	A page of tags.
type TagPage struct {
	// The tags, in the order that was asked for.
	Tags []Tag `json:"tags" validate:"required" extensions:"x-go-maxitems=maxPageSize"`
	// The page_token of the next page, if there is one.
	NextPageToken string `json:"next_page_token,omitempty" example:"EAJiYWJhbGx6"`
	freshness
} //	@name	TagPage

// TagHistory is what a tag was counted up, period by period.
//
//	@Description	What a tag was counted up, period by period.
type TagHistory struct {
	// The tag's name.
	Name string `json:"name" validate:"required" example:"foo"`
	// The length of a period.
	Resolution string `json:"resolution" validate:"required" enums:"minute,hour"`
	// When the first period begins.
	From string `json:"from" validate:"required" format:"date-time" example:"2026-11-23T06:00:00Z"`
	// When the last period ends.
	To string `json:"to" validate:"required" format:"date-time" example:"2026-11-23T09:00:00Z"`
	// What is before this time does not change any more.
	CompleteTo string `json:"complete_to" validate:"required" format:"date-time" example:"2026-11-23T08:00:00Z"`
	// What the total changed in each period, in order.
	Changes []int64 `json:"changes" validate:"required"`
	freshness
} //	@name	TagHistory
