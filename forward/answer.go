package forward

import "fmt"

// exit is where a packet left the lab: by the device out of the node, on a link
// where the device from had sent it.
type exit struct {
	out, from spot
}

// answer follows the answer to the packet that w followed to its end, or returns
// nil if there is none, or nobody knows of one.
func (w *walker) answer() *Journey {
	if !answers(w.pkt) {
		return nil
	}
	switch w.j.End {
	case Delivered:
		if at := w.net.Node(w.j.At); at != nil {
			return w.send(at, w.pkt.reply())
		}
	case LeftLab:
		if w.exit != nil {
			return w.comeIn(*w.exit)
		}
	}
	return nil
}

// comeIn follows an answer that somebody outside the lab may send. It comes in
// where the packet left, to whoever had sent that on the link.
func (w *walker) comeIn(by exit) *Journey {
	w.begin("", w.pkt.reply())
	o := Obstacle{Code: Outside, Node: by.out.node.Name, Device: by.out.device.Name, Sentence: "what is outside is not known"}
	if !by.from.node.Local(w.pkt.Dst) {
		o.Sentence += fmt.Sprintf(", nor whether it has a route to %s", w.pkt.Dst)
	}
	o.Sentence += "; an answer would take this way"
	w.doubt(o)
	w.arrive(by.out, neighbour{mac: by.from.device.MAC, spot: by.from})
	return w.j
}
