//go:build linux

package process

// Tree returns the ids of the process and its children.
func (p *Process) Tree() ([]int, error) { return p.tree() }

// Printed returns the end of the output so far.
func (p *Process) Printed() string { return p.output.String() }

// Parse reads a line of /proc/PID/stat.
func Parse(text string) (parent int, ticks int64, err error) {
	s, err := parse(text)
	return s.parent, s.ticks, err
}
