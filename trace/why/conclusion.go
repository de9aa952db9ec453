package why

// Conclusion says why a packet did not arrive.
type Conclusion struct {
	Code     string   `json:"code"`               // stable, such as "no-socket"
	Place    string   `json:"place"`              // such as "host, forward" or "host:eth0"
	Sentence string   `json:"sentence"`           // what happened, with the place; begins in lower case
	Advice   string   `json:"advice,omitempty"`   // what mends it, or ""
	Certain  bool     `json:"certain"`            // the kernel said so; else it is concluded from the configuration, or not known
	Evidence []string `json:"evidence,omitempty"` // what it is concluded from
	Arm      []string `json:"arm,omitempty"`      // what would have to be armed to know more
}

// String returns the sentence and the advice.
func (c Conclusion) String() string {
	if c.Advice == "" {
		return c.Sentence
	}
	return c.Sentence + ": " + c.Advice
}
