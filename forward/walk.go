package forward

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// End says how a [Journey] ends.
type End string

const (
	Delivered End = "delivered"
	Stopped   End = "stopped"
	LeftLab   End = "left_lab"
	Lost      End = "unknown" // how it goes on cannot be told
)

// Journey is the way a packet takes by the configuration alone.
type Journey struct {
	From   string `json:"from"`   // "": outside the lab
	Packet Packet `json:"packet"` // as it is sent, its source chosen
	Steps  []Step `json:"steps"`
	End    End    `json:"end"`
	At     string `json:"at"` // the node where it ends
	// Obstacles in the order in which the packet meets them. Of those that stop it
	// there is one at most, the last.
	Obstacles []Obstacle `json:"obstacles"`
	// Back is the way of the answer to one that was delivered, or that left the lab:
	// then the part of it in the lab, if there is an answer.
	Back *Journey `json:"back,omitempty"`
}

// Sure says that nothing is unknown about the journey.
func (j *Journey) Sure() bool {
	for _, o := range j.Obstacles {
		if o.Effect == Unknown {
			return false
		}
	}
	return j.End != Lost
}

// Step is a hop of a [Journey].
type Step struct {
	Hop    hop.Hop `json:"hop"`    // its ID is [hop.None]
	Packet Packet  `json:"packet"` // as it is there
	// NAT is what was translated since the step before, in that order.
	NAT []NAT `json:"nat,omitempty"`
	// Route is why a node sends it out here, as `ip route` has it.
	Route string `json:"route,omitempty"`
}

// NAT is a translation.
type NAT struct {
	Kind string  `json:"kind"`         // snat, dnat, snat-back or dnat-back
	By   *RuleAt `json:"by,omitempty"` // the rule that did it; nil of a reply
}

// maxSteps ends a packet that goes in circles where no TTL counts.
const maxSteps = 600

// walker follows one packet and its answer.
type walker struct {
	net   *Net
	j     *Journey
	conns map[string][]*conn // by node
	pkt   Packet
	piece int     // how long its largest fragment is; 0: it is whole
	track tracked // in the node where the packet is
	done  bool
	link  bool  // it does not leave the link: it is of neighbour discovery
	from  spot  // the device that sent it on the link where it is
	exit  *exit // by which it left the lab; nil: it did not, or to more than one
	nat   []NAT // to be told at the next step
	route string
}

// Walk follows a packet that the node from sends through the configuration, and
// the answer back if it is delivered. If it leaves the lab it follows the answer
// that may come in there. What cannot be told from the configuration is an
// obstacle whose effect is [Unknown]; the walk goes on as if it were none.
//
// Fields of p that are zero are chosen as the kernel would: the source by the
// route; TTL 64; the length of a small packet. It is an error if the node does
// not exist, or p has no destination.
func Walk(net *Net, from string, p Packet) (*Journey, error) {
	node := net.Node(from)
	if node == nil {
		return nil, net.unknownNode(from)
	}
	if !p.Dst.IsValid() {
		return nil, fmt.Errorf("walk from %s: the packet has no destination", from)
	}
	p = p.complete()
	w := &walker{net: net, conns: map[string][]*conn{}}
	j := w.send(node, p)
	j.Back = w.answer()
	return j, nil
}

func (p Packet) complete() Packet {
	if p.TTL == 0 {
		p.TTL = 64
	}
	if p.Proto == 0 {
		p.Proto = ICMP
		if p.Dst.Is6() {
			p.Proto = ICMP6
		}
	}
	if p.Type == 0 && p.Code == 0 {
		p.Type = map[uint8]uint8{ICMP: 8, ICMP6: 128}[p.Proto]
	}
	if p.Length == 0 {
		p.Length = 84
		if p.Dst.Is6() {
			p.Length = 104
		}
	}
	if p.Proto == TCP {
		p.DF = p.Dst.Is4()
	}
	return p
}

// answers says whether somebody answers such a packet who gets it.
func answers(p Packet) bool {
	switch p.Proto {
	case ICMP:
		return p.Type == 8
	case ICMP6:
		return p.Type == 128
	}
	return hasPorts(p.Proto)
}

// send follows a packet from the node that makes it.
func (w *walker) send(node *Node, p Packet) *Journey {
	w.begin(node.Name, p)
	w.originate(node)
	return w.j
}

// begin begins a journey.
func (w *walker) begin(from string, p Packet) {
	w.j = &Journey{From: from, Packet: p, End: Lost, At: from}
	w.pkt, w.piece, w.done, w.exit, w.nat, w.route = p, 0, false, nil, nil, ""
}

// step adds a hop.
func (w *walker) step(node *Node, d *Device, dir hop.Direction) {
	if len(w.j.Steps) >= maxSteps {
		w.stop(Obstacle{Code: Endless, Node: node.Name, Device: d.Name,
			Sentence: "the packet goes in circles", Advice: "take a link of the loop down"})
		return
	}
	pkt := w.pkt
	pkt.Mark = 0 // is the node's own
	w.j.Steps = append(w.j.Steps, Step{
		Hop: hop.Hop{ID: hop.None, Node: node.Name, Device: d.Name, Direction: dir, Kind: d.hopKind()},
		NAT: w.nat, Route: w.route, Packet: pkt,
	})
	w.nat, w.route = nil, ""
	w.j.At = node.Name
}

func (d *Device) hopKind() hop.Kind {
	switch {
	case d.Kind == "bridge":
		return hop.Bridge
	case d.Master != "":
		return hop.Port
	case d.Peer == "":
		return hop.Uplink
	}
	return hop.End
}

// stop ends the journey with an obstacle.
func (w *walker) stop(o Obstacle) {
	if w.done {
		return
	}
	o.Effect = Stops
	w.add(o)
	w.finish(Stopped, o.Node)
}

// doubt tells of an obstacle that may be one.
func (w *walker) doubt(o Obstacle) {
	o.Effect = Unknown
	w.add(o)
}

func (w *walker) note(o Obstacle) {
	o.Effect = Note
	w.add(o)
}

func (w *walker) add(o Obstacle) {
	o.Step = len(w.j.Steps) - 1
	w.j.Obstacles = append(w.j.Obstacles, o)
}

func (w *walker) finish(end End, node string) {
	if !w.done {
		w.j.End, w.j.At, w.done = end, node, true
	}
}

// enter makes conntrack of a node look at the packet.
func (w *walker) enter(node *Node) {
	w.pkt.Mark = 0
	if !w.pkt.trackable() {
		w.track = tracked{state: stateUntracked}
		return
	}
	now := tupleOf(&w.pkt)
	for _, c := range w.conns[node.Name] {
		switch now {
		case c.back():
			w.track = tracked{state: stateEstablished, reply: true, conn: c}
			return
		case c.orig:
			w.track = tracked{state: stateNew, conn: c}
			return
		}
	}
	c := &conn{orig: now, now: now}
	w.conns[node.Name] = append(w.conns[node.Name], c)
	w.track = tracked{state: stateNew, conn: c}
}

// hook lets the packet pass a netfilter hook, and reports whether it goes on.
func (w *walker) hook(node *Node, at place, masq ...Ruled) bool {
	if w.done {
		return false
	}
	if tables := node.legacyAt(at); len(tables) > 0 && !w.told(node, Legacy) {
		w.doubt(Obstacle{
			Code: Legacy, Node: node.Name, Hook: at.hook,
			Sentence: fmt.Sprintf("what rules of iptables-legacy do in %s, %s, is not known (table %s)", node.Name, at.hook, strings.Join(tables, ", ")),
			Advice:   node.run("%stables-legacy-save", at.family),
		})
	}
	p := node.hook(at, &w.pkt, &w.track, node.masquerade(at, &w.pkt, masq))
	for _, o := range p.doubts {
		w.doubt(Obstacle{
			Code: Netfilter, Node: node.Name, Hook: at.hook, Rule: &o.rule,
			Sentence: fmt.Sprintf("whether %s %s it in %s, %s, depends on %s", o.rule, does(o.verdict), node.Name, at.hook, o.why),
		})
	}
	if p.nat != "" {
		done := NAT{Kind: p.nat}
		if p.by.Table != "" {
			done.By = &p.by
		}
		w.nat = append(w.nat, done)
	}
	if p.verdict == "accept" {
		return true
	}
	o := Obstacle{Code: Netfilter, Node: node.Name, Hook: at.hook, Rule: &p.rule}
	if p.verdict == "queue" {
		o.Sentence = fmt.Sprintf("%s takes it in %s, %s, and what becomes of it is not known", p.rule, node.Name, at.hook)
		w.doubt(o)
		return true
	}
	o.Sentence = fmt.Sprintf("%s by %s in %s, %s", map[string]string{"drop": "dropped", "reject": "rejected"}[p.verdict], p.rule, node.Name, at.hook)
	o.Advice = node.accepting(&p.rule, at)
	if node.docker(&p.rule) && at.hook == "forward" {
		tool := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[p.rule.Family]
		const answers = "%s -I DOCKER-USER -i %s -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
		if o.Advice = node.run(answers, tool, at.in, at.out); !w.track.reply {
			o.Advice = node.run("%s -I DOCKER-USER -i %s -o %s -j ACCEPT", tool, at.in, at.out) +
				", and for the answers " + node.run(answers, tool, at.out, at.in)
		}
	}
	w.stop(o)
	return false
}

// accepting says how a packet at a place gets past the rule that stops it.
func (n *Node) accepting(r *RuleAt, at place) string {
	chain := r.Family + " " + r.Table + " " + r.Chain
	if r.Handle != 0 {
		return fmt.Sprintf("remove it with %s, or accept the packet in front of it", n.run("nft delete rule %s handle %d", chain, r.Handle))
	}
	for _, end := range [...][2]string{{"iifname", at.in}, {"oifname", at.out}} {
		if end[1] != "" {
			chain += " " + end[0] + " " + end[1]
		}
	}
	return n.run("nft add rule %s accept", chain) + "; an accept in another table does not undo the policy"
}

// told says whether there is an obstacle of that kind in the node already.
func (w *walker) told(node *Node, code Code) bool {
	return slices.ContainsFunc(w.j.Obstacles, func(o Obstacle) bool { return o.Code == code && o.Node == node.Name })
}

// docker says whether a rule is of the tables of Docker's, which leaves the chain
// DOCKER-USER to others.
func (n *Node) docker(r *RuleAt) bool {
	return r != nil && r.Table == "filter" && slices.ContainsFunc(n.Tables, func(t Table) bool {
		return t.Family == r.Family && t.Name == r.Table && t.chain("DOCKER-USER") != nil
	})
}

func does(verdict string) string {
	if d, ok := map[string]string{"drop": "drops", "reject": "rejects", "accept": "accepts", "nat": "translates", "queue": "takes"}[verdict]; ok {
		return d
	}
	return verdict
}
