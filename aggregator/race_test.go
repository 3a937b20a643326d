//go:build race

package aggregator

// raced means that the race detector is on, which makes tests five times slower.
const raced = true
