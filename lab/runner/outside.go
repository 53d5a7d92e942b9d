package runner

import "fmt"

// NodeRoot gives a path by which any process of the host reaches a node's files, its sockets among them. It leads
// nowhere when the node dies, and must be asked for again then: a pid is used again. The error is ErrNodeGone when the
// node has died.
func (l *Lab) NodeRoot(node string) (string, error) {
	i, err := l.init(node)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/root", i.Pid), nil
}
