package topology

import "github.com/nsbpf/nsbpf/internal/source"

// Error is a mistake in a topology file, or in a Topology.
type Error = source.Error
