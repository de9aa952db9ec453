// Package why says in a sentence what became of a packet that did not arrive, and
// what to do about it.
package why

// Conclusion is why a packet did not arrive.
type Conclusion struct {
	Code     string   `json:"code"`               // stable, such as "no-socket"
	Place    string   `json:"place"`              // such as "host, forward"
	Sentence string   `json:"sentence"`           // what happened, begins in lower case
	Advice   string   `json:"advice,omitempty"`   // what mends it, or ""
	Certain  bool     `json:"certain"`            // the kernel said so; else it is concluded from the configuration
	Evidence []string `json:"evidence,omitempty"` // what it is concluded from
	Arm      []string `json:"arm,omitempty"`      // what would have to be armed to know more
}
