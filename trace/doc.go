// Package trace joins sightings into paths: which way each packet went through
// the lab, how long each part took, what was changed, and where it ended. It has
// no clock and no privilege; sightings may as well come from a recording.
package trace
