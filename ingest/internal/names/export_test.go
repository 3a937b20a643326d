package names

// Held returns how many names are remembered.
func (n *Names) Held() int { return len(n.seen) + len(n.before) }

// IsNew reports whether a name is not remembered.
func (n *Names) IsNew(name string) bool {
	_, seen := n.seen[name]
	_, before := n.before[name]
	return !seen && !before
}
