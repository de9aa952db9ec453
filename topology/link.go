package topology

import (
	"cmp"
	"fmt"
)

// String returns "a-b", the nodes or bridges that l connects.
func (l Link) String() string {
	return cmp.Or(l.A.Bridge, l.A.Node) + "-" + cmp.Or(l.B.Bridge, l.B.Node)
}

// linkEnd is an End with its path.
type linkEnd struct {
	End
	path string
}

// ends returns both ends of l, which is the link of index i.
func (l Link) ends(i int) []linkEnd {
	return []linkEnd{
		{l.A, fmt.Sprintf("links[%d].a", i)},
		{l.B, fmt.Sprintf("links[%d].b", i)},
	}
}

// segment names what shares a link layer with l, which is the link of index i:
// a bridge or just the link.
func (l Link) segment(i int) string {
	return cmp.Or(l.A.Bridge, l.B.Bridge, fmt.Sprintf("links[%d]", i))
}
